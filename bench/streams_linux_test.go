package bench

import (
	"maps"
	"testing"
)

func TestSourceAddresses(t *testing.T) {
	t.Parallel()
	target, fake := startFake(t, misbehavior{})
	if _, err := runBench(t, func(o *Options) { o.Target, o.Idle, o.SourceAddresses = target, true, 4 }); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"127.0.1.1": 5, "127.0.1.2": 5, "127.0.1.3": 5, "127.0.1.4": 5}; !maps.Equal(fake.from, want) {
		t.Errorf("the streams come from %v", fake.from)
	}
	for streams, want := range map[int]int{100: 0, portsPerAddress: 0, portsPerAddress + 1: 2, 100_000: 4} {
		if got := sourcesFor(streams, 0, true); got != want {
			t.Errorf("%d streams come from %d addresses, want %d", streams, got, want)
		}
	}
}
