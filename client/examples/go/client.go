// A client in Go: subscribes, raises events one by one or in batches, and is itself a subscriber.
//
//	client subscribe EVENT SOCKET       for an hour; prints the name of the subscription
//	client raise EVENT [name=value…]    prints what became of it, one line for each subscription
//	client stream EVENT COUNT           raises COUNT events in batches; prints how many succeeded
//	client listen NAME COUNT            takes COUNT events as the subscriber stream:NAME; prints each, a line of JSON
//
// The server is at $EVENTVIRTUAL_SERVER, by default 127.0.0.1:7060. `go generate` makes the stubs, with Debian's
// protobuf-compiler, protoc-gen-go and protoc-gen-go-grpc:
//
//	cd client/examples/go && go generate && go build -o /tmp/client . && /tmp/client listen billing 1
package main

//go:generate ./generate.sh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	v1 "eventvirtual/example/eventvirtual/v1"
)

const batch = 100 // events of one message; several are on their way at a time

func subscribe(ctx context.Context, connection *grpc.ClientConn, event, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answer, err := v1.NewSubscriptionServiceClient(connection).Subscribe(ctx, &v1.SubscribeRequest{
		Subscription: &v1.Subscription{
			Event:  event,
			Socket: socket,
			// Subscribe again before it is over: that moves its end.
			Expiration: &v1.Subscription_Ttl{Ttl: durationpb.New(time.Hour)},
		},
	})
	if err != nil {
		return err
	}
	fmt.Println(answer.GetSubscription().GetName())
	return nil
}

func raise(ctx context.Context, connection *grpc.ClientConn, name string, params []string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	event := &v1.Event{Name: name}
	for _, param := range params {
		key, value, _ := strings.Cut(param, "=")
		event.Params = append(event.Params, &v1.Param{Name: key, Value: &v1.Param_StringValue{StringValue: value}})
	}
	// WAIT_ACCEPTED answers as soon as it is queued.
	answer, err := v1.NewEventServiceClient(connection).Raise(ctx, &v1.RaiseRequest{Event: event, Wait: v1.Wait_WAIT_DELIVERED})
	if err != nil {
		return err
	}
	for _, delivery := range answer.GetDeliveries() {
		fmt.Println(delivery.GetSubscription(), strings.ToLower(strings.TrimPrefix(delivery.GetOutcome().String(), "OUTCOME_")))
	}
	return nil
}

func stream(ctx context.Context, connection *grpc.ClientConn, name string, count int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches, err := v1.NewEventServiceClient(connection).RaiseStream(ctx)
	if err != nil {
		return err
	}
	// Sent beside the answers: who sends all before reading the first waits for a server that waits for him.
	sent := make(chan error, 1)
	go func() {
		for first := 0; first < count; first += batch {
			request := &v1.RaiseStreamRequest{Sequence: uint64(first + 1), Wait: v1.Wait_WAIT_DELIVERED}
			for n := first; n < first+batch && n < count; n++ {
				param := &v1.Param{Name: "n", Value: &v1.Param_IntValue{IntValue: int64(n)}}
				request.Events = append(request.Events, &v1.Event{Name: name, Params: []*v1.Param{param}})
			}
			if err := batches.Send(request); err != nil {
				sent <- err
				return
			}
		}
		sent <- batches.CloseSend()
	}()
	succeeded := 0
	for {
		answer, err := batches.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err // tells more than what Send() has said
		}
		succeeded += int(answer.GetSucceeded())
		for _, failure := range answer.GetFailures() { // of one event each: try it again, or keep it
			fmt.Fprintf(os.Stderr, "event %d: %s\n", answer.GetSequence()-1+uint64(failure.GetIndex()), failure.GetMessage())
		}
	}
	if err := <-sent; err != nil {
		return err
	}
	fmt.Printf("%d of %d succeeded\n", succeeded, count)
	return nil
}

func listen(ctx context.Context, connection *grpc.ClientConn, name string, count int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	deliveries, err := v1.NewEventServiceClient(connection).Listen(ctx)
	if err != nil {
		return err
	}
	if err := deliveries.Send(&v1.ListenRequest{Name: name}); err != nil {
		return err
	}
	for count > 0 {
		answer, err := deliveries.Recv()
		if err != nil {
			return err
		}
		// Until it is acknowledged, the server counts it as not delivered; so do first what must not be lost.
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(answer.GetEvent())
		if err != nil {
			return err
		}
		fmt.Println(string(text))
		if err := deliveries.Send(&v1.ListenRequest{Acks: []uint64{answer.GetDeliveryId()}}); err != nil {
			return err
		}
		count--
	}
	if err := deliveries.CloseSend(); err != nil {
		return err
	}
	for { // until the server closes its half; what comes behind the last one is not acknowledged
		if _, err := deliveries.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func run(words []string) error {
	server := os.Getenv("EVENTVIRTUAL_SERVER")
	if server == "" {
		server = "127.0.0.1:7060"
	}
	connection, err := grpc.Dial(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx := context.Background()
	command := ""
	if len(words) >= 2 {
		command = words[0]
	}
	switch {
	case command == "raise":
		return raise(ctx, connection, words[1], words[2:])
	case command == "subscribe" && len(words) == 3:
		return subscribe(ctx, connection, words[1], words[2])
	case (command == "stream" || command == "listen") && len(words) == 3:
		count, err := strconv.Atoi(words[2])
		if err != nil {
			return err
		}
		if command == "stream" {
			return stream(ctx, connection, words[1], count)
		}
		return listen(ctx, connection, words[1], count)
	}
	return errors.New("usage: client subscribe EVENT SOCKET | raise EVENT [name=value…] | stream EVENT COUNT | listen NAME COUNT")
}

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	if answer, ok := status.FromError(err); ok {
		fmt.Fprintf(os.Stderr, "%s: %s\n", answer.Code(), answer.Message())
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}
