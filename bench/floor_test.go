//go:build linux

package bench

import (
	"context"
	"maps"
	"net"
	"os"
	"testing"
	"time"
)

// startFloor runs a floor until the test ends.
func startFloor(t *testing.T) *Plain {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	addresses, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- Floor(ctx, "127.0.0.1:0", func(a net.Addr) { addresses <- a }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case a := <-addresses:
		return plainAt(a.String())(100).(*Plain)
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
		return nil
	}
}

func TestFloorLosesNothing(t *testing.T) {
	t.Parallel()
	target := startFloor(t)
	report, err := runBench(t, func(o *Options) {
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

func TestSourceAddresses(t *testing.T) {
	t.Parallel()
	target, fake := startFake(t, mischief{})
	if _, err := runBench(t, func(o *Options) { o.Target, o.Idle, o.SourceAddresses = target, true, 4 }); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"127.0.1.1": 5, "127.0.1.2": 5, "127.0.1.3": 5, "127.0.1.4": 5}; !maps.Equal(fake.from, want) {
		t.Errorf("streams came from %v", fake.from)
	}
	for streams, want := range map[int]int{100: 0, portsPerAddress: 0, portsPerAddress + 1: 2, 100_000: 4} {
		if got := sourcesFor(streams, 0, true); got != want {
			t.Errorf("%d streams come from %d addresses, want %d", streams, got, want)
		}
	}
}

func TestFloorSaturated(t *testing.T) {
	t.Parallel()
	target := startFloor(t)
	report, err := runBench(t, func(o *Options) {
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
	target := startFloor(t)
	report, err := runBench(t, func(o *Options) { o.Target, o.Idle, o.PIDs = target, true, []int{os.Getpid()} })
	if err != nil {
		t.Fatal(err)
	}
	if report.Messages != 0 || report.Memory == nil || report.Memory.AfterBytes == 0 || report.CPU.Cores < 0 {
		t.Errorf("%+v", report)
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	u, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	m, err := readMemory(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.cpu <= 0 || u.memory.rss < 1<<20 || u.cpu > time.Hour || m.rss < 1<<20 || m.pss > m.rss || m.private > m.pss || m.private == 0 {
		t.Errorf("%+v", u)
	}
	// The clock and the ticks count the same.
	if ticked := u.user + u.system; u.cpu-ticked > time.Second || ticked-u.cpu > time.Second {
		t.Errorf("the clock says %s, the ticks %s", u.cpu, ticked)
	}
	if _, err := readUsage(1 << 30); err == nil {
		t.Error("a process that is not there was read")
	}
	if got := family(os.Getppid()); len(got) < 2 {
		t.Errorf("the family of this test's parent is %d processes", len(got))
	}
	if machineBusy() < time.Second {
		t.Errorf("the machine has worked %s", machineBusy())
	}
}
