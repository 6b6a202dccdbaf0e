package main

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"parlor/bench"
)

func runBench(t *testing.T, change func(*bench.Options)) (*bench.Report, error) {
	t.Helper()
	o := bench.Options{Streams: 20, Rooms: 4, Rate: 200, Senders: 4, Duration: time.Second}
	change(&o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return bench.Run(ctx, o)
}

// startFloor runs a floor until the test ends.
func startFloor(t *testing.T, serve func(context.Context, string, func(net.Addr)) error) *bench.Plain {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	addresses, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, "127.0.0.1:0", func(a net.Addr) { addresses <- a }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case a := <-addresses:
		return plainAt(a.String(), 100)
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
		return nil
	}
}

func TestFloorLosesNothing(t *testing.T) {
	t.Parallel()
	for _, serve := range []func(context.Context, string, func(net.Addr)) error{serveFloor, serveHTTPFloor} {
		checkLosesNothing(t, startFloor(t, serve))
	}
}

func checkLosesNothing(t *testing.T, target *bench.Plain) {
	t.Helper()
	report, err := runBench(t, func(o *bench.Options) {
		o.Target, o.Streams, o.Rooms, o.Rate, o.SourceAddresses = target, 300, 3, 300, 3
		o.PIDs, o.BesidePIDs = []int{os.Getpid()}, []int{os.Getpid()}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() || report.Deliveries != report.Messages*100 || report.Missed != 0 {
		t.Errorf("%+v", report)
	}
	if report.CPU == nil || report.CPU.MicrosPerDelivery <= 0 || report.CPU.Cores <= 0 || report.Memory == nil || report.BesideCPU == nil {
		t.Errorf("%+v", report)
	}
}

func TestFloorSaturated(t *testing.T) {
	t.Parallel()
	target := startFloor(t, serveFloor)
	report, err := runBench(t, func(o *bench.Options) {
		o.Target, o.Streams, o.Rooms, o.Rate, o.Senders, o.Duration = target, 50, 1, 0, 4, 300*time.Millisecond
	})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() || report.Deliveries != report.Messages*50 || report.Messages < 100 {
		t.Errorf("%+v", report)
	}
}

func TestFloorIdle(t *testing.T) {
	t.Parallel()
	target := startFloor(t, serveFloor)
	report, err := runBench(t, func(o *bench.Options) { o.Target, o.Idle, o.PIDs = target, true, []int{os.Getpid()} })
	if err != nil {
		t.Fatal(err)
	}
	if report.Messages != 0 || report.Memory == nil || report.Memory.AfterBytes == 0 || report.CPU.Cores < 0 {
		t.Errorf("%+v", report)
	}
}
