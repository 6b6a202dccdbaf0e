package main

import (
	"testing"

	"golang.org/x/sys/unix"

	"parlor/tcp/tcptest"
)

func TestSocketTimeoutsAreSet(t *testing.T) {
	t.Parallel()
	server, _ := accept(t)
	tcptest.Check(t, server, append(tcptest.KeepAlive(15, 5, 3),
		tcptest.Option{Name: "TCP_USER_TIMEOUT", Level: unix.IPPROTO_TCP, Code: unix.TCP_USER_TIMEOUT, Want: 60_000},
		tcptest.Option{Name: "TCP_NOTSENT_LOWAT", Level: unix.IPPROTO_TCP, Code: unix.TCP_NOTSENT_LOWAT, Want: 128 << 10},
	)...)
}
