package bench

import (
	"fmt"
	"time"
)

// usage is what a process has used of the processor, and holds of memory.
type usage struct {
	cpu          time.Duration // exact
	user, system time.Duration // as the kernel splits it, in ticks of 10 ms
	memory       memory
}

// memory is in bytes. The kernel's own for sockets (some KiB for each) is in none of them.
type memory struct {
	rss int64
	// pss counts pages that several processes share by their shares; private are those that no other has. 0 where the
	// system does not say.
	pss, private int64
}

func (u usage) plus(o usage) usage {
	return usage{u.cpu + o.cpu, u.user + o.user, u.system + o.system, u.memory.plus(o.memory)}
}

func (m memory) plus(o memory) memory {
	return memory{m.rss + o.rss, m.pss + o.pss, m.private + o.private}
}

// reading is what all processes of a run used until an instant.
type reading struct {
	server, beside, self usage
	// machine is what all processors together have worked; 0 where the system does not say.
	machine time.Duration
}

// ours is the processor time of all that takes part in a run.
func (r reading) ours() time.Duration { return r.server.cpu + r.beside.cpu + r.self.cpu }

// meter reads the processes of a run.
type meter struct {
	pids, beside []int
}

// check fails where a process cannot be measured.
func (m meter) check() error {
	for _, pid := range append(append([]int{}, m.pids...), m.beside...) {
		if _, err := readUsage(pid); err != nil {
			return fmt.Errorf("--pid %d: %w", pid, err)
		}
	}
	return nil
}

// server is what the server used and holds. It is read each second, so its memory is what costs little to read: the RSS.
func (m meter) server() (all usage) {
	for _, pid := range m.pids {
		u, _ := readUsage(pid)
		all = all.plus(u)
	}
	return all
}

// weigh is the server's memory, exactly. The kernel walks through all of it for that.
func (m meter) weigh() (all memory) {
	for _, pid := range m.pids {
		held, _ := readMemory(pid)
		all = all.plus(held)
	}
	return all
}

// read reads all processes. One that has ended counts nothing.
func (m meter) read() reading {
	r := reading{server: m.server(), self: selfUsage(), machine: machineBusy()}
	for _, pid := range m.beside {
		for _, pid := range Family(pid) {
			u, _ := readUsage(pid)
			r.beside = r.beside.plus(u)
		}
	}
	return r
}
