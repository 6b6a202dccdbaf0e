//go:build !linux

package bench

import (
	"errors"
	"time"
)

func readUsage(int) (usage, error) {
	return usage{}, errors.New("measuring processes is supported only on Linux")
}

func readMemory(pid int) (memory, error) {
	u, err := readUsage(pid)
	return u.memory, err
}

func selfUsage() usage { return usage{} }

func machineBusy() time.Duration { return 0 }

// Family returns only the process itself on this system.
func Family(pid int) []int { return []int{pid} }
