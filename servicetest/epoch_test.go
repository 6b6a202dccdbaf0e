package servicetest

import (
	"strings"
	"testing"

	"parlor/room"
)

// TestRestoredDatabase: streams and feeds do not go on at a cursor of before, though
// the database has its places: what was written there since is something else.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	stream, _ := alice.listen()
	alice.send("lobby", "before")
	stream.text()
	cursor := stream.id
	stream.disconnect()
	feed, _ := s.admin().follow("")
	place := feed.id
	feed.disconnect()

	restored := newService(t, func(c *setup) { c.database, c.store.Origin = s.database, "a copy" })
	again := &client{service: restored, http: restored.http, session: alice.session}
	restored.log.secret(alice.SessionKey)
	for name, sent := range map[string]string{"of before": cursor, "of a server that knew no epochs": cursor[strings.Index(cursor, ".")+1:]} {
		stream, ready := again.listen(resume(sent))
		if ready.Resumed {
			t.Errorf("a cursor %s is resumed", name)
		}
		if r := expect[room.RoomReset](stream); r.Reason != room.ResetEpochChanged || r.RoomID != "lobby" {
			t.Errorf("with a cursor %s the room's reset says %+v", name, r)
		}
		if r := expect[room.InboxReset](stream); r.Reason != room.ResetEpochChanged {
			t.Errorf("with a cursor %s the inbox's reset says %+v", name, r)
		}
		again.send("lobby", "after")
		if got := stream.text(); got != "after" {
			t.Errorf("with a cursor %s the stream goes on with %q", name, got)
		}
		later := stream.id
		stream.disconnect()
		resumed, ready := again.listen(resume(later))
		if !ready.Resumed {
			t.Error("a cursor of the new epoch is not resumed")
		}
		resumed.disconnect()
	}
	for _, sent := range []string{place, place[strings.Index(place, ".")+1:]} {
		feed, ready := restored.admin().follow(sent)
		if ready.Resumed || ready.Reason != room.ResetEpochChanged {
			t.Errorf("the feed begins with %+v", ready)
		}
		if got := feed.nextSummary(); got != "lobby created" {
			t.Errorf("the feed begins with %q, and not with the oldest that is kept", got)
		}
		later := feed.id
		feed.disconnect()
		if _, ready := restored.admin().follow(later); !ready.Resumed {
			t.Errorf("at a place of the new epoch the feed begins with %+v", ready)
		}
	}
}
