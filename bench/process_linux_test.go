package bench

import (
	"os"
	"testing"
	"time"
)

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
	// The clock and the ticks measure the same time.
	if ticked := u.user + u.system; u.cpu-ticked > time.Second || ticked-u.cpu > time.Second {
		t.Errorf("%s of CPU time by the clock, %s by ticks", u.cpu, ticked)
	}
	if _, err := readUsage(1 << 30); err == nil {
		t.Error("readUsage of a missing process returned no error")
	}
	if got := Family(os.Getppid()); len(got) < 2 {
		t.Errorf("Family of the parent of this test returned %d processes", len(got))
	}
	if machineBusy() < time.Second {
		t.Errorf("the CPU time of the machine is %s", machineBusy())
	}
}
