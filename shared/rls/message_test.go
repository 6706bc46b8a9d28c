package rls_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"sentinel-envoy/shared/rls"
)

// The generated messages read what is written here.
func FuzzRequest(f *testing.F) {
	f.Add("sentinel", "rule", "orders-qps", "value", uint32(1))
	f.Add("", "", "", "", uint32(0))
	f.Add(strings.Repeat("d", 127), strings.Repeat("k", 128), strings.Repeat("v", 20000), "值", uint32(math.MaxUint32))
	f.Fuzz(func(t *testing.T, domain, key, value, second string, hits uint32) {
		for _, s := range []*string{&domain, &key, &value, &second} {
			*s = strings.ToValidUTF8(*s, "?")
		}
		entries := []rls.Entry{{Key: key, Value: value}, {Key: "value", Value: second}}
		var got ratelimit.RateLimitRequest
		if err := proto.Unmarshal(rls.AppendRequest(nil, domain, entries, hits), &got); err != nil {
			t.Fatal(err)
		}
		d := got.GetDescriptors()
		if len(d) != 1 || got.GetDomain() != domain || len(d[0].GetEntries()) != 2 || got.GetHitsAddend() != hits {
			t.Fatalf("read %v", &got)
		}
		for i, e := range d[0].GetEntries() {
			if e.GetKey() != entries[i].Key || e.GetValue() != entries[i].Value {
				t.Errorf("entry %d is %v, want %v", i, e, entries[i])
			}
		}
		if asks := d[0].GetHitsAddend() != nil; asks != (hits == 0) || d[0].GetHitsAddend().GetValue() != 0 {
			t.Errorf("the descriptor's own hits are %v of %d", d[0].GetHitsAddend(), hits)
		}
		if _, known := any(d[0]).(*common.RateLimitDescriptor); !known {
			t.Error("no descriptor")
		}
	})
}

// What the generated messages write is read here, with whatever else they have.
func FuzzAnswer(f *testing.F) {
	f.Add(int32(1), int32(1), uint32(1000), uint32(7), int64(1), int32(0), "name", true)
	f.Add(int32(2), int32(7), uint32(0), uint32(math.MaxUint32), int64(-5), int32(99), "", false)
	f.Fuzz(func(t *testing.T, code, unit int32, limit, remaining uint32, reset int64, nanos int32, name string, limited bool) {
		name = strings.ToValidUTF8(name, "?")
		status := &ratelimit.RateLimitResponse_DescriptorStatus{
			Code: ratelimit.RateLimitResponse_OK, LimitRemaining: remaining,
			DurationUntilReset: &durationpb.Duration{Seconds: reset, Nanos: nanos},
		}
		if limited {
			status.CurrentLimit = &ratelimit.RateLimitResponse_RateLimit{
				Name: name, RequestsPerUnit: limit, Unit: ratelimit.RateLimitResponse_RateLimit_Unit(unit & 127),
			}
		}
		message, err := proto.Marshal(&ratelimit.RateLimitResponse{
			OverallCode: ratelimit.RateLimitResponse_Code(code), RawBody: []byte(name),
			Statuses:             []*ratelimit.RateLimitResponse_DescriptorStatus{status, {LimitRemaining: 1}},
			ResponseHeadersToAdd: []*core.HeaderValue{{Key: name, Value: name}},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := rls.Answer{
			Code: rls.Code(code), Limited: limited, Remaining: remaining,
			ResetSeconds: min(max(reset, 0), 366*24*3600),
		}
		if limited {
			want.Limit, want.Unit = limit, rls.Unit(unit&127)
		}
		got, err := rls.Decode(message)
		if known := code == 1 || code == 2; known != (err == nil) || known && got != want {
			t.Errorf("read %+v, %v; want %+v", got, err, want)
		}
	})
}

// Whatever bytes come, nothing breaks, and what is read is what the generated messages read.
func FuzzBytes(f *testing.F) {
	for _, seed := range []string{"", "\x08\x02", "\x08\x01\x12\x04\x12\x02\x08\x05", "\x12\xff\xff\xff\xff\x0f", "\x08", "\x0d\x01\x02\x03\x04\x08\x01"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := rls.Decode(message)
		var want ratelimit.RateLimitResponse
		if err != nil || proto.Unmarshal(message, &want) != nil {
			return
		}
		first := &ratelimit.RateLimitResponse_DescriptorStatus{}
		if len(want.GetStatuses()) > 0 {
			first = want.GetStatuses()[0]
		}
		if int32(got.Code) != int32(want.GetOverallCode()) || got.Remaining != first.GetLimitRemaining() ||
			got.Limit != first.GetCurrentLimit().GetRequestsPerUnit() || got.Limited != (first.GetCurrentLimit() != nil) {
			t.Errorf("%x: read %+v, want %v", message, got, &want)
		}
	})
}

func TestNonsenseIsNoAnswer(t *testing.T) {
	for _, message := range []string{"", "hello", "\x08\x00", "\x08\x03", "\x08\x01\x12\x7f", "\x08\x01\x13"} {
		if a, err := rls.Decode([]byte(message)); !errors.Is(err, rls.ErrMalformed) {
			t.Errorf("%q: %+v, %v", message, a, err)
		}
	}
}

func TestClusterIsReadAsGrpcService(t *testing.T) {
	for _, name := range []string{"rls", strings.Repeat("c", 200)} {
		var got core.GrpcService
		if err := proto.Unmarshal(rls.AppendCluster(nil, name), &got); err != nil || got.GetEnvoyGrpc().GetClusterName() != name {
			t.Errorf("%s: %v, %v", name, &got, err)
		}
	}
}
