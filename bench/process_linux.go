package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc/<pid>/stat. Linux reports 100 ticks per second to all
// programs.
const tick = 10 * time.Millisecond

// readUsage returns the usage of a process. The exact CPU time is read from the CPU clock of the
// process, which includes threads that have ended.
func readUsage(pid int) (usage, error) {
	var u usage
	fields, err := readStat(pid)
	if err != nil {
		return u, err
	}
	u.user, u.system = ticks(fields[11]), ticks(fields[12])
	// clock_getcpuclockid(3): the complement of the process ID, and 2 for the scheduler's clock of
	// the whole process.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return u, fmt.Errorf("CPU clock: %w", err)
	}
	u.cpu = time.Duration(ts.Nano())
	u.memory, err = readStatm(pid)
	return u, err
}

// readStat returns the fields of /proc/<pid>/stat after the name, which may contain any characters.
func readStat(pid int) ([][]byte, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return nil, errors.New("/proc/<pid>/stat has an unexpected format")
	}
	return fields, nil
}

func ticks(field []byte) time.Duration {
	n, _ := leadingNumber(field)
	return time.Duration(n) * tick
}

// readMemory reads smaps_rollup, or statm if that is not permitted.
func readMemory(pid int) (memory, error) {
	var m memory
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil || len(text) == 0 {
		return readStatm(pid)
	}
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		kib, _ := leadingNumber(bytes.TrimSpace(value))
		switch string(name) {
		case "Rss":
			m.rss += kib << 10
		case "Pss":
			m.pss += kib << 10
		case "Private_Clean", "Private_Dirty":
			m.private += kib << 10
		}
	}
	return m, nil
}

func readStatm(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return memory{}, err
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return memory{}, errors.New("/proc/<pid>/statm has an unexpected format")
	}
	pages, _ := leadingNumber(fields[1])
	return memory{rss: pages * int64(os.Getpagesize())}, nil
}

func selfUsage() usage {
	u, _ := readUsage(os.Getpid())
	return u
}

// machineBusy returns the CPU time of the machine from the first line of /proc/stat: user, nice,
// system, idle, iowait, irq, softirq.
func machineBusy() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 8 {
		return 0
	}
	return ticks(fields[1]) + ticks(fields[2]) + ticks(fields[3]) + ticks(fields[6]) + ticks(fields[7])
}

// Family returns the process IDs of a process and its children.
func Family(pid int) []int {
	all := []int{pid}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if fields, err := readStat(child); err == nil && string(fields[1]) == strconv.Itoa(pid) {
			all = append(all, child)
		}
	}
	return all
}
