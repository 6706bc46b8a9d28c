package config

import (
	"encoding/json"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

func TestFromStructGivesTheSameJSON(t *testing.T) {
	for _, text := range []string{
		`{"resource_name":"some-test","flowRules":[{"id":"a","threshold":0.5,"statIntervalInMs":1000}]}`,
		`{"a":null,"b":[],"c":{},"d":[1,"x\n\"\\",true,{"e":[[-2.5e-9]]}],"ü":"日本\u0001"}`,
		`{"n":123456789012,"f":false}`,
	} {
		var want map[string]any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		message, err := structpb.NewStruct(want)
		if err != nil {
			t.Fatal(err)
		}
		wire, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := FromStruct(wire)
		if !ok {
			t.Fatalf("not read: %s", text)
		}
		var back map[string]any
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		if !reflect.DeepEqual(want, back) {
			t.Errorf("%s became %s", text, got)
		}
		for cut := 1; cut < len(wire); cut++ {
			if j, ok := FromStruct(wire[:cut]); ok && !json.Valid(j) {
				t.Errorf("%d bytes became %q", cut, j)
			}
		}
	}
}

func TestFromStructLeavesTextAlone(t *testing.T) {
	for _, text := range []string{"", "{}", " {}", "\n{\"resource_name\": \"some-test\"}", "\n\n{}\n", "\t{", "\n"} {
		if got, ok := FromStruct([]byte(text)); ok {
			t.Errorf("%q was taken for a Struct: %s", text, got)
		}
	}
}
