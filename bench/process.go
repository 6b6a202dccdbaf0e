package bench

import (
	"fmt"
	"time"
)

// usage is the CPU time and memory of a process.
type usage struct {
	cpu          time.Duration // exact
	user, system time.Duration // as split by the kernel, in ticks of 10 ms
	memory       memory
}

// memory is in bytes. It does not include the kernel memory of sockets, some KiB each.
type memory struct {
	rss int64
	// pss counts pages that several processes share proportionally. private counts pages of this
	// process only. Both are 0 if the system does not report them.
	pss, private int64
}

func (u usage) plus(o usage) usage {
	return usage{u.cpu + o.cpu, u.user + o.user, u.system + o.system, u.memory.plus(o.memory)}
}

func (m memory) plus(o memory) memory {
	return memory{m.rss + o.rss, m.pss + o.pss, m.private + o.private}
}

// reading is the usage of all processes of a run, from their start until a time.
type reading struct {
	server, beside, self usage
	// machine is the CPU time of the whole machine, or 0 if the system does not report it.
	machine time.Duration
}

// ours returns the CPU time of all processes of the run.
func (r reading) ours() time.Duration { return r.server.cpu + r.beside.cpu + r.self.cpu }

// meter reads the usage of the processes of a run.
type meter struct {
	pids, beside []int
}

// check returns an error if a process cannot be measured.
func (m meter) check() error {
	for _, pid := range append(append([]int{}, m.pids...), m.beside...) {
		if _, err := readUsage(pid); err != nil {
			return fmt.Errorf("--pid %d: %w", pid, err)
		}
	}
	return nil
}

// server returns the usage of the server. It is called each second, so it reads only the RSS of the
// memory, which is cheap.
func (m meter) server() (all usage) {
	for _, pid := range m.pids {
		u, _ := readUsage(pid)
		all = all.plus(u)
	}
	return all
}

// readMemory returns the exact memory of the server. It is expensive, because the kernel walks
// through all pages.
func (m meter) readMemory() (all memory) {
	for _, pid := range m.pids {
		held, _ := readMemory(pid)
		all = all.plus(held)
	}
	return all
}

// read reads the usage of all processes. Processes that have ended count as 0.
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
