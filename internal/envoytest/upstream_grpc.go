package envoytest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// GRPCService is a gRPC upstream: the health service (unary Check, streaming Watch), and every other method, which does
// what the call's metadata asks for:
//
//	x-code      the gRPC code it ends with; default 0, OK
//	x-messages  how many empty messages it sends before; default 1, and 0 where x-code is not OK
//	x-delay-ms  the wait before each message and before the end
//
// A call that ends with an error before any message has no trailers of its own: header and status come as one
// (trailers-only).
type GRPCService struct {
	// Health sets what the health service says.
	Health *health.Server

	server *grpc.Server
	addr   string
	calls  atomic.Int64
}

// NewGRPCService starts the service on a free loopback port.
func NewGRPCService() (*GRPCService, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &GRPCService{Health: health.NewServer(), addr: l.Addr().String()}
	s.server = grpc.NewServer(
		grpc.UnknownServiceHandler(s.serve),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			s.calls.Add(1)
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			s.calls.Add(1)
			return next(srv, stream)
		}),
	)
	healthpb.RegisterHealthServer(s.server, s.Health)
	go s.server.Serve(l)
	return s, nil
}

// Addr gives the service's host:port.
func (s *GRPCService) Addr() string { return s.addr }

// Calls gives how many calls have arrived.
func (s *GRPCService) Calls() int64 { return s.calls.Load() }

// Close ends the service, its connections and calls.
func (s *GRPCService) Close() { s.server.Stop() }

func (s *GRPCService) serve(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	code := codes.Code(number(md, "x-code", 0))
	messages := number(md, "x-messages", 1)
	if code != codes.OK {
		messages = number(md, "x-messages", 0)
	}
	delay := time.Duration(number(md, "x-delay-ms", 0)) * time.Millisecond
	for range messages {
		if err := sleep(stream.Context(), delay); err != nil {
			return err
		}
		if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
			return err
		}
	}
	if err := sleep(stream.Context(), delay); err != nil {
		return err
	}
	if code == codes.OK {
		return nil
	}
	return status.Error(code, fmt.Sprintf("asked for %v", code))
}

// number gives the metadata's value as a number, or def where there is none.
func number(md metadata.MD, name string, def int) int {
	if v := md.Get(name); len(v) > 0 {
		if n, err := strconv.Atoi(v[0]); err == nil {
			return n
		}
	}
	return def
}

// NewGRPCClient gives a client for a host:port, without TLS. The caller closes it.
func NewGRPCClient(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// Call makes a unary call with an empty message and the metadata, names and values in turn. method is the whole name,
// such as "/shop.Orders/List". Its error is the call's status.
func Call(ctx context.Context, cc *grpc.ClientConn, method string, md ...string) error {
	ctx = metadata.AppendToOutgoingContext(ctx, md...)
	return cc.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
}

// Stream makes a call with an empty message and reads messages to the end. It gives how many came, and the status.
func Stream(ctx context.Context, cc *grpc.ClientConn, method string, md ...string) (int, error) {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, md...))
	defer cancel()
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return 0, err
	}
	if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
		return 0, err
	}
	if err := stream.CloseSend(); err != nil {
		return 0, err
	}
	for n := 0; ; n++ {
		err := stream.RecvMsg(&emptypb.Empty{})
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
