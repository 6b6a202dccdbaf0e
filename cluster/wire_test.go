package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"parlor/hub"
	"parlor/room"
)

// benchmarkChange is a change of as many messages as a lane commits together under load.
func benchmarkChange(h *hub.Hub) (room.Change, []*hub.Frame) {
	var c room.Change
	for i := range 16 {
		c.Events = append(c.Events, room.Event{Room: "room", Log: room.LogID(i + 1), Seq: 3, Body: room.MessagesReceived{MessageList: []room.Message{
			{ID: "message", Sender: room.User{ID: "sender"}, Content: room.Content{Kind: room.KindText, Text: strings.Repeat("x", 100)}},
		}}})
	}
	return c, h.Encode(c.Events)
}

// appendChange appends the records of a change.
func appendChange(t testing.TB, records []byte, c room.Change, frames []*hub.Frame, at time.Time) []byte {
	notice, err := encodeNotice(c, at)
	if err != nil {
		t.Fatal(err)
	}
	if notice != nil {
		records = appendRecord(records, recordNotice, textContent(string(notice)))
	}
	if len(frames) > 0 {
		records = appendRecord(records, recordFrames, framesContent(frames))
	}
	return records
}

func textContent(text string) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, text...) }
}

// BenchmarkPublish encodes a change into packets.
func BenchmarkPublish(b *testing.B) {
	h := hub.New(nil, hub.Options{})
	defer h.Close()
	c, frames := benchmarkChange(h)
	var records []byte
	var sent numbering
	b.ReportAllocs()
	for b.Loop() {
		records = appendChange(b, records[:0], c, frames, time.Time{})
		if len(sent.packets("0198c3a1-0000-7000-8000-000000000000", message{0, records}, 7999)) == 0 {
			b.Fatal("no packets")
		}
	}
	b.SetBytes(int64(len(records)))
}

// BenchmarkHear parses the packets of a change into frames.
func BenchmarkHear(b *testing.B) {
	h := hub.New(nil, hub.Options{})
	defer h.Close()
	c, frames := benchmarkChange(h)
	records := appendChange(b, nil, c, frames, time.Time{})
	packets := new(numbering).packets("0198c3a1-0000-7000-8000-000000000000", message{0, records}, 7999)
	b.ReportAllocs()
	b.SetBytes(int64(len(records)))
	for b.Loop() {
		from, heard := &peer{}, 0
		for _, packet := range packets {
			p, err := parsePacket(packet.Text)
			if err != nil {
				b.Fatal(err)
			}
			message, _ := from.hear(p, time.Time{})
			for len(message) > 0 {
				_, content, rest, err := parseRecord(message)
				if err != nil {
					b.Fatal(err)
				}
				frames, err := parseFrames(content)
				if err != nil {
					b.Fatal(err)
				}
				heard, message = heard+len(frames), rest
			}
		}
		if heard != len(frames) {
			b.Fatalf("heard %d frames", heard)
		}
	}
}

func TestChangeOnTheWire(t *testing.T) {
	h := hub.New(nil, hub.Options{})
	defer h.Close()
	events := []room.Event{
		{Room: "r", Log: 7, Seq: 3, Body: room.MembersLeft{MemberList: []room.LeftMember{}}},
		{Room: "r", Log: 7, Body: room.MessagesReceived{MessageList: []room.Message{{ID: "m", Content: room.Content{Kind: room.KindBarrage}}}}},
		{Room: "r", Log: 7, Seq: 4, Body: room.MessagesReceived{MessageList: []room.Message{{ID: "m", To: []room.UserID{"z", "a b"}, Sender: room.User{ID: "sender"}}}}},
		{Room: "r", Log: 7, Body: room.MessagesReceived{MessageList: []room.Message{{ID: "m", To: []room.UserID{"a"}, Content: room.Content{Kind: room.KindBarrage}}}}},
		{Room: "r", Log: 7, Seq: 5, Body: room.MessageRecalled{RecalledSeq: 4, Audience: []room.UserID{"a b", "sender", "z"}}},
		{Log: 8, Seq: 1, Body: room.PeerMessageRecalled{Peer: "zoë", RecalledSeq: 4}},
	}
	want := room.Change{
		Joined:  []room.Joined{{Session: "s1", Room: "r", Generation: 7, Presence: 5, From: 2, Call: room.RoomEnter, Created: true}},
		Left:    []room.Left{{Session: "s2", Room: "r", Generation: 7, Presence: 4, Reason: room.ReasonKicked, AdminReason: "line\nbreak"}},
		Renewed: []room.RenewedToken{{Session: "s3", ExpiresAt: time.Date(2030, 1, 2, 3, 4, 5, 6000000, time.UTC)}},
		Refused: []room.RefusedJoin{{Session: "s4", Room: "r", Call: room.RoomSwitch, Problem: room.Problem{Code: "room_full"}}},
		Ended:   []room.EndedSession{{Session: "s5", Reason: room.EndKickedOut, AdminReason: "why"}},
		Opened:  []room.NewStream{{Session: "s6", StreamNo: 9}},
		Renamed: []room.SessionID{"s7"},
	}
	sent := want
	sent.By, sent.Events = room.Server(), events
	frames := h.Encode(events)
	at := time.Date(2030, 1, 1, 0, 0, 0, 1000000, time.UTC)
	message := appendChange(t, nil, sent, frames, at)
	var got notice
	var gotFrames []*hub.Frame
	for len(message) > 0 {
		kind, content, rest, err := parseRecord(message)
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case recordNotice:
			if gotFrames != nil {
				t.Error("the frames come before the notice")
			}
			if got, err = parseNotice(content); err != nil {
				t.Fatal(err)
			}
		case recordFrames:
			if gotFrames, err = parseFrames(content); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("record %q", kind)
		}
		message = rest
	}
	if diff := cmp.Diff(notice{at, want}, got); diff != "" {
		t.Errorf("notice (-sent +heard):\n%s", diff)
	}
	for field := range reflect.TypeFor[room.Change]().Fields() {
		var alone room.Change
		reflect.ValueOf(&alone).Elem().FieldByIndex(field.Index).Set(reflect.ValueOf(sent).FieldByIndex(field.Index))
		encoded, err := encodeNotice(alone, at)
		if own := field.Name == "By" || field.Name == "Events"; err != nil || (encoded == nil) != own {
			t.Errorf("a change with only %s has the notice %q, %v", field.Name, encoded, err)
		}
	}
	ignoreInbox := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".inbox" }, cmp.Ignore())
	if diff := cmp.Diff(frames, gotFrames, cmp.AllowUnexported(hub.Frame{}), ignoreInbox); diff != "" {
		t.Errorf("frames (-sent +heard):\n%s", diff)
	}
}

// TestEmptyChange checks that a change without effects on streams sends nothing.
func TestEmptyChange(t *testing.T) {
	if records := appendChange(t, nil, room.Change{By: room.Server()}, nil, time.Time{}); len(records) != 0 {
		t.Errorf("an empty change is %q", records)
	}
}

func TestPackets(t *testing.T) {
	for _, size := range []int{140, 141, 142, 143, 200, 1000, 7999} {
		for _, text := range []string{"", "x", strings.Repeat("häß", 100), strings.Repeat("👩‍🚀", 1000), strings.Repeat("z", 20000)} {
			for _, log := range []room.LogID{0, 7} {
				sent := numbering{last: 40, lastToAll: 30}
				packets := sent.packets("node", message{log, []byte(text)}, size)
				var whole strings.Builder
				previous := uint64(30)
				for i, got := range packets {
					if len(got.Text) > size || !utf8.Valid(got.Text) || got.Log != log {
						t.Fatalf("size %d: a packet of %d bytes for log %d, valid %t", size, len(got.Text), got.Log, utf8.Valid(got.Text))
					}
					p, err := parsePacket(got.Text)
					if err != nil {
						t.Fatal(err)
					}
					want := packet{node: "node", number: uint64(41 + i), previous: previous, part: uint64(i + 1), parts: uint64(len(packets)), content: p.content}
					if !reflect.DeepEqual(p, want) {
						t.Fatalf("packet %d for log %d is %+v", i, log, p)
					}
					if log == 0 {
						previous = p.number
					}
					whole.Write(p.content)
				}
				if whole.String() != text {
					t.Errorf("size %d: the parts of a message of %d bytes are %d bytes", size, len(text), whole.Len())
				}
			}
		}
	}
}

func TestPacketsThatAreIgnored(t *testing.T) {
	for _, text := range []string{
		"", "\n", "parlor/1", "parlor/1 node 1 0 1 1", "other/1 node 1 0 1 1\n", "parlor/1 node 0 0 1 1\n", "parlor/1 node 1 0 2 1\n",
		"parlor/1 node 1 0 0 1\n", "parlor/1 node -1 0 1 1\n", "parlor/1 node 1 1 1\n", "parlor/1 node 1 0 1 1 1\n", "parlor/1  1 0 1 1\n",
		"parlor/1 node 18446744073709551616 0 1 1\n", "parlor/1 node 1 0 2 2\n", "parlor/1 node 1 1 1 1\n", "parlor/1 node 1 -1 1 1\n",
		"parlor/1 " + strings.Repeat("n", maxNodeID+1) + " 1 0 1 1\n",
	} {
		if p, err := parsePacket([]byte(text)); err == nil || errors.Is(err, errOtherVersion) {
			t.Errorf("%q is the packet %+v (error %v)", text, p, err)
		}
	}
	for _, version := range []string{"2", "0", "01", "10", ""} {
		p, err := parsePacket(fmt.Appendf(nil, "parlor/%s node whatever\n", version))
		if !errors.Is(err, errOtherVersion) || p.node != "node" {
			t.Errorf("a packet of version %q is %+v (error %v)", version, p, err)
		}
	}
}

// FuzzMessage checks that no text makes a node panic, and that what it parses is what it was given.
func FuzzMessage(f *testing.F) {
	h := hub.New(nil, hub.Options{})
	f.Cleanup(h.Close)
	frames := h.Encode([]room.Event{
		{Room: "r", Log: 7, Seq: 3, Body: room.MembersLeft{}}, {Room: "r", Log: 7, Seq: 4, Body: room.MessageRecalled{Audience: []room.UserID{"a", "b"}}},
	})
	seed := appendChange(f, nil, room.Change{Ended: []room.EndedSession{{Session: "s"}}}, frames, time.Time{})
	f.Add(string(appendRecord(seed, recordPong, textContent("node 7"))))
	f.Add(string(appendRecord(nil, recordBeat, new(following).appendTo)))
	f.Add("frames 3\n1 2")
	f.Add("frames 0000000015\n1 2 3 4 1 0 0\nx")
	f.Add("frames 0000000020\n1 2 3 4 1 1 4\nxya\nb\n")
	f.Fuzz(func(t *testing.T, text string) {
		for message := []byte(text); len(message) > 0; {
			kind, content, rest, err := parseRecord(message)
			if err != nil {
				return
			}
			if len(content)+len(rest) >= len(message) {
				t.Fatalf("a record %q of %d bytes and %d more in %d", kind, len(content), len(rest), len(message))
			}
			if _, err := parseNotice(content); kind == recordNotice && err != nil && json.Valid(content) {
				t.Logf("a notice that is not understood: %v", err)
			}
			if since, follows, err := parseInterest(content); err == nil && follows != nil {
				again := following{told: *follows, since: since}
				sameSince, same, err := parseInterest(again.appendTo(nil))
				if err != nil || !sameSince.Equal(since) || *same != *follows {
					t.Fatalf("a beat changes on its way (error %v)", err)
				}
			}
			if frames, err := parseFrames(content); err == nil {
				again := appendRecord(nil, recordFrames, framesContent(frames))
				_, content, _, err := parseRecord(again)
				if err != nil {
					t.Fatal(err)
				}
				parsed, err := parseFrames(content)
				if diff := cmp.Diff(frames, parsed, cmp.AllowUnexported(hub.Frame{})); err != nil || diff != "" {
					t.Fatalf("frames change on their way (error %v):\n%s", err, diff)
				}
			}
			message = rest
		}
	})
}

// FuzzPacket checks that no text makes a node panic.
func FuzzPacket(f *testing.F) {
	f.Add("parlor/1 node 2 1 1 1\ntext")
	f.Add("parlor/2 node")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePacket([]byte(text))
		if err == nil && (p.node == "" || p.previous >= p.number || p.part == 0 || p.part > p.parts || !strings.HasSuffix(text, "\n"+string(p.content))) {
			t.Errorf("%q is %+v", text, p)
		}
	})
}
