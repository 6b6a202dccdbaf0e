package servicetest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parlor/room"
	"parlor/store/storetest"
)

type pairs map[string]string

// readAttributes returns a room's attributes and their version.
func (c *client) readAttributes(id room.RoomID) (pairs, room.Seq) {
	c.Helper()
	r := c.call("GET", roomPath(id, "/attributes"), nil).is(http.StatusOK)
	got := as[struct {
		RoomAttributes pairs
		Version        room.Seq
	}](r)
	if tag := r.Header.Get("ETag"); tag != tagOf(got.Version) {
		c.Errorf("version %d has ETag %s", got.Version, tag)
	}
	return got.RoomAttributes, got.Version
}

// patchAttributes changes a room's attributes. It returns their version and the keys that were not
// changed.
func (c *client) patchAttributes(id room.RoomID, body object) (room.Seq, []string) {
	c.Helper()
	r := c.call("PATCH", roomPath(id, "/attributes"), body).is(http.StatusOK)
	got := as[struct {
		Version   room.Seq
		ErrorKeys []string
	}](r)
	if tag := r.Header.Get("ETag"); tag != tagOf(got.Version) {
		c.Errorf("version %d has ETag %s", got.Version, tag)
	}
	return got.Version, got.ErrorKeys
}

func tagOf(version room.Seq) string { return fmt.Sprintf(`"%d"`, version) }

// TestRoomAttributes checks changes by two members, and the events on both members' streams.
func TestRoomAttributes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	created := as[struct{ Room room.Room }](alice.call("POST", "/v1/rooms", object{
		"roomID": "class#1", "roomAttributes": pairs{"topic": "Fractions"},
	}).is(http.StatusCreated)).Room
	if got := created.Attributes.Pairs(); !cmp.Equal(got, map[string]string{"topic": "Fractions"}) || created.AttributesVersion != 0 {
		t.Errorf("created with %v, version %d", got, created.AttributesVersion)
	}
	entered := bob.enter("class#1")
	if entered.Attributes["topic"].Value != "Fractions" {
		t.Errorf("entered with %v", entered.Attributes)
	}
	aliceStream, ready := alice.listen()
	if len(ready.Rooms) != 1 || ready.Rooms[0].Attributes["topic"].Value != "Fractions" {
		t.Errorf("alice's stream begins with %+v", ready)
	}
	expect[room.MembersJoined](aliceStream)
	bobStream, _ := bob.listen()

	version, refused := alice.patchAttributes("class#1", object{"set": pairs{"topic": "Decimals", "é": ""}, "delete": []string{"nothing"}})
	if version != entered.LastSeq+1 || len(refused) > 0 {
		t.Errorf("version is %d, want the one after %d; refused keys %q", version, entered.LastSeq, refused)
	}
	set := func(p pairs) room.AttributesInfo {
		return room.AttributesInfo{Action: room.AttributesSet, Attributes: p}
	}
	deleted := func(p pairs) room.AttributesInfo {
		return room.AttributesInfo{Action: room.AttributesDelete, Attributes: p}
	}
	expectEvent := func(by room.UserID, infos ...room.AttributesInfo) {
		t.Helper()
		want := room.AttributesUpdated{Infos: infos}
		if by != "" {
			want.OperatedInfo = &room.OperatedInfo{UserID: by}
		}
		for _, stream := range []*stream{aliceStream, bobStream} {
			if diff := cmp.Diff(want, expect[room.AttributesUpdated](stream)); diff != "" {
				t.Errorf("attribute event (-want +got):\n%s", diff)
			}
		}
	}
	expectEvent("alice", set(pairs{"topic": "Decimals", "é": ""}))
	if aliceStream.seq() != version {
		t.Errorf("event has seq %d, want version %d", aliceStream.seq(), version)
	}
	if got, v := bob.readAttributes("class#1"); !cmp.Equal(got, pairs{"topic": "Decimals", "é": ""}) || v != version {
		t.Errorf("attributes of version %d are %v", v, got)
	}

	again, refused := bob.patchAttributes("class#1", object{"set": pairs{"topic": "Sets", "é": "x"}, "delete": []string{"nothing"}})
	if again != version || !slices.Equal(refused, []string{"topic", "é"}) {
		t.Errorf("changing another member's attributes: version %d, refused keys %q", again, refused)
	}
	_, refused = bob.patchAttributes("class#1", object{"set": pairs{"mine": "1"}, "delete": []string{"topic"}, "deleteAfterOwnerLeft": true})
	if !slices.Equal(refused, []string{"topic"}) {
		t.Errorf("refused keys are %q", refused)
	}
	expectEvent("bob", set(pairs{"mine": "1"}))
	bob.patchAttributes("class#1", object{"set": pairs{"topic": "Sets"}, "delete": []string{"é"}, "force": true, "updateOwner": true})
	expectEvent("bob", set(pairs{"topic": "Sets"}), deleted(pairs{"é": ""}))
	if _, refused := alice.patchAttributes("class#1", object{"set": pairs{"topic": "x"}}); !slices.Equal(refused, []string{"topic"}) {
		t.Errorf("changing attributes with a new owner: refused keys %q", refused)
	}
	bobStream.disconnect()
	bob.leave("class#1")
	expect[room.MembersLeft](aliceStream)
	want := room.AttributesUpdated{Infos: []room.AttributesInfo{deleted(pairs{"mine": "1"})}}
	if diff := cmp.Diff(want, expect[room.AttributesUpdated](aliceStream)); diff != "" {
		t.Errorf("event after bob left (-want +got):\n%s", diff)
	}
	if got := alice.enter("class#1"); !cmp.Equal(got.Attributes.Pairs(), map[string]string{"topic": "Sets"}) || got.AttributesVersion != got.LastSeq {
		t.Errorf("entered again with %+v", got)
	}
}

func TestRoomAttributesNeedMembership(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice, bob := s.login("alice"), s.login("bob")
	alice.enter("lobby")
	for _, path := range []string{"/attributes", "/member-attributes"} {
		body := object{"set": pairs{"k": "v"}}
		if path == "/member-attributes" {
			body["userIDs"] = []string{"bob"}
		}
		for _, c := range []struct {
			id     room.RoomID
			status int
			code   string
		}{{"lobby", http.StatusConflict, "not_in_room"}, {"nowhere", http.StatusNotFound, "room_not_found"}} {
			bob.call("GET", roomPath(c.id, path), nil).refused(c.status, c.code)
			bob.call("PATCH", roomPath(c.id, path), body).refused(c.status, c.code)
		}
	}
	if got, _ := alice.readAttributes("lobby"); len(got) > 0 {
		t.Errorf("rejected changes were stored: %v", got)
	}
}

// TestInitialRoomAttributes checks that only the call that creates a room sets its initial
// attributes, for each call that can create one.
func TestInitialRoomAttributes(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	type entered struct{ Room room.Room }
	enter := func(id room.RoomID, value string) reply {
		return alice.call("POST", roomPath(id, "/enter"), object{"roomAttributes": pairs{"k": value}})
	}
	if got := as[entered](enter("a", "1").is(http.StatusCreated)).Room; got.Attributes["k"].Value != "1" {
		t.Errorf("entered with %v", got.Attributes)
	}
	if got := as[entered](enter("a", "2").is(http.StatusOK)).Room; got.Attributes["k"].Value != "1" {
		t.Errorf("entered again with %v", got.Attributes)
	}
	if got := as[entered](alice.call("POST", roomPath("a", "/switch"), object{
		"toRoom": object{"roomID": "b"}, "createIfNotExists": true, "roomAttributes": pairs{"k": "3"},
	}).is(http.StatusOK)).Room; got.Attributes["k"].Value != "3" {
		t.Errorf("switched with %v", got.Attributes)
	}
	bob := s.login("bob")
	bob.enter("b")
	if _, refused := bob.patchAttributes("b", object{"set": pairs{"k": "4"}}); !slices.Equal(refused, []string{"k"}) {
		t.Errorf("refused keys are %q", refused)
	}
	if version, _ := alice.patchAttributes("b", object{"set": pairs{"k": "5"}}); version == 0 {
		t.Error("a change did not increase the version")
	}

	// Each limit is checked at its value and one above it.
	create := func(attributes pairs) reply {
		r := alice.call("POST", "/v1/rooms", object{"roomID": "limits", "roomAttributes": attributes})
		if r.StatusCode == http.StatusCreated {
			alice.leave("limits")
		}
		return r
	}
	for what, c := range map[string]struct {
		most, beyond  pairs
		pointer, rule string
	}{
		"pairs": {manyAttributes(20), manyAttributes(21), "/roomAttributes", "max"},
		"key":   {pairs{strings.Repeat("é", 8): ""}, pairs{strings.Repeat("é", 8) + "x": ""}, "/roomAttributes/" + strings.Repeat("é", 8) + "x", "keyBytes"},
		"value": {pairs{"k": strings.Repeat("é", 512)}, pairs{"k": strings.Repeat("é", 512) + "x"}, "/roomAttributes/k", "maxBytes"},
		"total": {attributesOfSize(5120), attributesOfSize(5121), "/roomAttributes", "totalBytes"},
	} {
		if r := create(c.most); r.StatusCode != http.StatusCreated {
			t.Errorf("%s: at the limit: got status %d: %s", what, r.StatusCode, r.body)
		}
		create(c.beyond).invalid(c.pointer, c.rule)
	}
}

// manyAttributes returns n attributes.
func manyAttributes(n int) pairs {
	p := make(pairs)
	for i := range n {
		p[fmt.Sprint("k", i)] = ""
	}
	return p
}

// attributesOfSize returns attributes of n bytes in total.
func attributesOfSize(n int) pairs {
	p := make(pairs)
	for i := 0; n > 0; i++ {
		size := min(n-1, 1024)
		p[string(rune('a'+i))] = strings.Repeat("x", size)
		n -= 1 + size
	}
	return p
}

func TestRoomAttributesLimits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	path := roomPath("lobby", "/attributes")
	for what, c := range map[string]struct {
		most, more pairs
	}{
		"pairs": {manyAttributes(20), pairs{"one more": ""}},
		"total": {attributesOfSize(5120), pairs{"z": ""}},
	} {
		alice.enter("lobby")
		version, _ := alice.patchAttributes("lobby", object{"set": c.most})
		alice.call("PATCH", path, object{"set": c.more}).refused(http.StatusConflict, "attributes_full")
		alice.call("PATCH", path, object{"set": pairs{"a": "!", "b": "!", "one": "", "two": "", "three": strings.Repeat("x", 1024), "four": strings.Repeat("x", 1024)}}).refused(http.StatusConflict, "attributes_full")
		if got, v := alice.readAttributes("lobby"); !cmp.Equal(got, c.most) || v != version {
			t.Errorf("%s: a rejected change increased version %d to %d", what, version, v)
		}
		for key := range c.most { // replacing one attribute is allowed
			alice.patchAttributes("lobby", object{"set": c.more, "delete": []string{key}})
			break
		}
		alice.leave("lobby")
	}

	alice.enter("lobby")
	alice.patchAttributes("lobby", object{"set": pairs{strings.Repeat("é", 8): strings.Repeat("é", 512)}})
	alice.patchAttributes("lobby", object{"delete": []string{strings.Repeat("é", 8)}})
	for _, c := range []struct {
		body          object
		pointer, rule string
	}{
		{object{"set": pairs{strings.Repeat("é", 8) + "/": ""}}, "/set/" + strings.Repeat("é", 8) + "~1", "keyBytes"},
		{object{"set": pairs{"[a.b]": strings.Repeat("é", 512) + "x"}}, "/set/[a.b]", "maxBytes"},
		{object{"delete": []string{strings.Repeat("é", 8) + "x"}}, "/delete/0", "maxBytes"},
		{object{"delete": []string{"a", ""}}, "/delete/1", "min"},
		{object{"delete": []string{"a", "a"}}, "/delete", "unique"},
		{object{"set": pairs{"a": "", "b": ""}, "delete": []string{"c", "b"}}, "/delete/1", "different"},
		{object{}, "", "empty"},
		{object{"set": pairs{}, "delete": []string{}, "force": true}, "", "empty"},
	} {
		alice.call("PATCH", path, c.body).invalid(c.pointer, c.rule)
	}
	if _, v := alice.readAttributes("lobby"); v != 3 {
		t.Errorf("rejected changes increased the version to %d", v)
	}
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	s := newService(t)
	alice := s.login("alice")
	alice.enter("lobby")
	version, _ := alice.patchAttributes("lobby", object{"set": pairs{"n": "0"}})
	now, past := tagOf(version), tagOf(version-1)
	patch := func(values ...string) reply {
		return alice.call("PATCH", roomPath("lobby", "/attributes"), object{"set": pairs{"n": "0"}}, func(r *http.Request) {
			r.Header["If-Match"] = values
		})
	}
	for _, good := range [][]string{
		{now}, {"*"}, {" * "}, {past + ", " + now}, {now + "," + past}, {past, now}, {", ," + now + ","}, {past + "\t,\t" + now}, {`"a,b", W/"x", ` + now}, {`"é"`, now},
	} {
		if r := patch(good...); r.StatusCode != http.StatusOK {
			t.Errorf("If-Match %q: got status %d", good, r.StatusCode)
		}
	}
	for _, other := range []string{
		past, tagOf(version + 1), "W/" + now, `""`, `"x"`, `"*"`, `"0` + now[1:], `"+` + now[1:], `"-1"`, `"99999999999999999999"`, `"` + strconv.Itoa(int(version)) + `.0"`,
	} {
		r := patch(other)
		if p := as[problem](r); r.StatusCode != http.StatusPreconditionFailed || p.Code != "version_mismatch" {
			t.Errorf("If-Match %q: got status %d %s", other, r.StatusCode, p.Code)
		}
	}
	for _, bad := range [][]string{
		{""}, {","}, {"47"}, {`"47`}, {`47"`}, {`'47'`}, {now + past}, {now + " " + past}, {"w/" + now}, {"W/ " + now}, {"W/"}, {"**"}, {"*, " + now}, {now, "*"}, {`"a b"`}, {now + "x"},
	} {
		patch(bad...).invalid("header/If-Match", "etag")
	}
}

// TestCompareAndSet checks that no increment is lost if many clients write concurrently with
// If-Match.
func TestCompareAndSet(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const writers, increments = 8, 10
	first := s.login("alice")
	first.call("POST", "/v1/rooms", object{"roomID": "lobby", "roomAttributes": pairs{"n": "0"}}).is(http.StatusCreated)
	var working sync.WaitGroup
	for range writers {
		alice := s.login("alice")
		alice.enter("lobby")
		working.Go(func() {
			// Each failed try means that another writer succeeded, so there are at most as many
			// failures as increments.
			for done, tries := 0, 0; done < increments && tries < writers*increments; tries++ {
				got, version := alice.readAttributes("lobby")
				n, err := strconv.Atoi(got["n"])
				if err != nil {
					t.Error(err)
					return
				}
				r := alice.call("PATCH", roomPath("lobby", "/attributes"), object{"set": pairs{"n": strconv.Itoa(n + 1)}}, header("If-Match", tagOf(version)))
				switch r.StatusCode {
				case http.StatusOK:
					done++
				case http.StatusPreconditionFailed:
				default:
					t.Errorf("%d %s", r.StatusCode, r.body)
					return
				}
			}
		})
	}
	working.Wait()
	if got, _ := first.readAttributes("lobby"); got["n"] != strconv.Itoa(writers*increments) {
		t.Errorf("the counter is %s after %d increments", got["n"], writers*increments)
	}
}

// TestAttributesAfterRestart checks that a new process delivers attribute changes from the log to a
// client that reconnects.
func TestAttributesAfterRestart(t *testing.T) {
	t.Parallel()
	database := storetest.Database(t)
	on := func(c *setup) { c.database = database }
	before := newService(t, on)
	alice, bob := before.login("alice"), before.login("bob")
	alice.enter("lobby")
	bob.enter("lobby")
	stream, _ := bob.listen()
	stream.disconnect()
	version, _ := alice.patchAttributes("lobby", object{"set": pairs{"topic": "tea"}})
	alice.patchMembers("lobby", object{"userIDs": []string{"bob"}, "set": pairs{"hand": "up"}})

	after := newService(t, on)
	back := &client{service: after, http: after.http, session: bob.session}
	again, ready := back.listen(resume(stream.id))
	if !ready.Resumed || ready.Rooms[0].Attributes["topic"].Value != "tea" || ready.Rooms[0].AttributesVersion != version {
		t.Errorf("the stream begins with %+v", ready)
	}
	if got := expect[room.AttributesUpdated](again); again.seq() != version || got.Infos[0].Attributes["topic"] != "tea" || got.OperatedInfo.UserID != "alice" {
		t.Errorf("event %d has the body %+v", again.seq(), got)
	}
	if got := expect[room.MemberAttributesUpdated](again); got.Infos[0].UserID != "bob" || got.Infos[0].Attributes["hand"].Value != "up" {
		t.Errorf("next event is %+v", got)
	}
	reset, _ := back.listen(resume("no cursor"))
	if got := expect[room.RoomReset](reset); got.Room.Attributes["topic"].Value != "tea" {
		t.Errorf("after a reset, the room is %+v", got)
	}
}
