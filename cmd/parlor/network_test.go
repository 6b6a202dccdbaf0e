package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// network connects the test with one server, which is in a network namespace of its own, through a
// pair of virtual Ethernet devices. Packets can be lost in it, as they are in a real network: nobody
// acknowledges them, and nobody is told. A relay in a process could not do that, because the
// system acknowledges what the relay does not read.
//
// All addresses are in 192.0.2.0/24 (TEST-NET-1, RFC 5737), and exist only in namespaces that the
// test makes. Each peer has one, and the server has one for each peer:
//
//	192.0.2.1  PostgreSQL    192.0.2.11, 192.0.2.21, … the servers, as PostgreSQL sees them
//	192.0.2.2  NATS          192.0.2.12, 192.0.2.22, … as NATS sees them
//	192.0.2.3  the clients   192.0.2.13, 192.0.2.23, … as their clients see them
type network struct {
	t         *testing.T
	namespace *namespace
	number    int // of the server, from 0 on
}

// peer is a communication partner of the server on the test's side.
type peer int

const (
	postgresPeer peer = iota + 1
	natsPeer
	clientsPeer
)

var allPeers = []peer{postgresPeer, natsPeer, clientsPeer}

// namesOf returns the names of peers.
func namesOf(peers []peer) string {
	var names []string
	for _, p := range peers {
		names = append(names, [...]string{postgresPeer: "PostgreSQL", natsPeer: "NATS", clientsPeer: "clients"}[p])
	}
	return strings.Join(names, " and ")
}

// address returns the peer's address.
func (p peer) address() string { return fmt.Sprintf("192.0.2.%d", p) }

// direction says which packets are meant, as seen by the server.
type direction int

const (
	sent direction = 1 << iota
	received
	both = sent | received
)

func (d direction) String() string {
	return [...]string{sent: "what the server sent to", received: "what the server received from", both: "everything between the server and"}[d]
}

// The hardware addresses of the devices. Packets to nowhere arrive at the other device, which
// ignores them, because they are not for it.
const (
	testDevice   = "02:00:00:00:00:01"
	serverDevice = "02:00:00:00:00:02"
	nowhere      = "02:00:00:00:00:03"
)

// openNetworks gives the test's own namespace the addresses of all peers.
func openNetworks(t *testing.T) {
	t.Helper()
	commands := []string{"link set lo up"}
	for _, p := range allPeers {
		commands = append(commands, "address add "+p.address()+" dev lo")
	}
	ip(t, nil, commands...)
}

// addNetwork adds the network of a server, until the end of the test.
func addNetwork(t *testing.T, number int) *network {
	t.Helper()
	n := &network{t: t, number: number, namespace: newNamespace(t)}
	ours := []string{
		fmt.Sprintf("link add %s address %s type veth peer name eth0 address %s netns %d", n.device(), testDevice, serverDevice, n.namespace.pid),
		"link set " + n.device() + " up",
	}
	theirs := []string{"link set lo up", "link set eth0 up"}
	for _, p := range allPeers {
		ours = append(ours, fmt.Sprintf("route add %s dev %s src %s", n.address(p), n.device(), p.address()))
		theirs = append(theirs,
			fmt.Sprintf("address add %s dev eth0", n.address(p)),
			fmt.Sprintf("route add %s dev eth0 src %s", p.address(), n.address(p)))
	}
	ip(t, nil, ours...)
	ip(t, n.namespace, theirs...)
	n.mend()
	return n
}

// address returns the address of the server in its connections with a peer.
func (n *network) address(p peer) string { return fmt.Sprintf("192.0.2.%d", 10*(n.number+1)+int(p)) }

// device returns the name of the device on the test's side.
func (n *network) device() string { return fmt.Sprintf("server%d", n.number) }

// lose makes the network lose the packets of one direction, or of both, between the server and peers.
func (n *network) lose(d direction, peers ...peer) {
	n.t.Helper()
	if d&sent != 0 {
		n.sendTo(nowhere, peers)
	}
	if d&received != 0 {
		n.receiveAt(nowhere, peers)
	}
}

// mend makes all packets arrive.
func (n *network) mend() {
	n.t.Helper()
	n.sendTo(testDevice, allPeers)
	n.receiveAt(serverDevice, allPeers)
}

// sendTo sets the hardware address to which the server sends packets for peers. It is permanent,
// because a sender would be told that a search for it has failed.
func (n *network) sendTo(device string, peers []peer) {
	n.t.Helper()
	var commands []string
	for _, p := range peers {
		commands = append(commands, fmt.Sprintf("neighbor replace %s lladdr %s dev eth0 nud permanent", p.address(), device))
	}
	ip(n.t, n.namespace, commands...)
}

// receiveAt sets the hardware address to which peers send packets for the server.
func (n *network) receiveAt(device string, peers []peer) {
	n.t.Helper()
	var commands []string
	for _, p := range peers {
		commands = append(commands, fmt.Sprintf("neighbor replace %s lladdr %s dev %s nud permanent", n.address(p), device, n.device()))
	}
	ip(n.t, nil, commands...)
}

// ip runs commands of ip(8) in a namespace, or in that of the test if it is nil.
func ip(t *testing.T, in *namespace, commands ...string) {
	t.Helper()
	path, err := findProgram("ip")
	if err != nil {
		t.Fatal("ip is not installed: run scripts/setup.sh ip")
	}
	cmd := exec.Command(path, "-batch", "-")
	if in != nil {
		cmd = in.command(path, "-batch", "-")
	}
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s\n%s", strings.Join(commands, "; "), err, bytes.TrimSpace(out), namespaceHelp)
	}
}
