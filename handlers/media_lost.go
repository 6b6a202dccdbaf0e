package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"parlor/room"
)

// errMediaLost has a 4xx status although the fault is the server's. A lost picture in a large room
// would cause hundreds of 5xx replies, and load balancers would take out a server that works
// otherwise. The reply is never cached (answerError), because the bytes may be restored from a
// backup.
var errMediaLost = newProblem(http.StatusGone, "media_lost", "The server has lost some or all bytes of the file: upload it again.")

// lostLogInterval is the minimum time between two log lines about lost bytes. Otherwise a folder
// that was emptied would cause a line for each request.
const lostLogInterval = time.Minute

// lostFiles counts requests for files whose bytes are lost.
type lostFiles struct {
	observe func() // may be nil
	log     rareLog
}

// report counts and logs that the stored bytes of a file do not match its row.
func (l *lostFiles) report(log *slog.Logger, m room.StoredMedia, why error) {
	if l.observe != nil {
		l.observe()
	}
	if ok, suppressed := l.log.allow(time.Now()); ok {
		log.Error("media bytes lost", "mediaID", m.ID, "size", m.Size, "error", why, "suppressed", suppressed)
	}
}

// lostMedia returns the error to answer with if the bytes of a file do not match its row. The file
// is lost, unless it was deleted since the row was read.
func (a *api) lostMedia(ctx context.Context, user room.UserID, m room.StoredMedia, why error) error {
	_, err := withCallTimeout(ctx, func(ctx context.Context) (room.StoredMedia, error) { return a.Store.MediaFor(ctx, user, m.ID) })
	if err != nil {
		return err
	}
	a.lost.report(a.Log, m, why)
	return fmt.Errorf("%w (%w)", errMediaLost, why)
}

// errParts means that the stored parts of an upload do not match its rows.
var errParts = errors.New("parts of an upload are lost")

// lostParts returns the error to answer with if an upload cannot be assembled. Its client has to
// start again.
func (a *api) lostParts(u room.Upload, why error) error {
	a.lost.report(a.Log, room.StoredMedia{Media: room.Media{ID: u.ID, Size: u.Length}}, why)
	return fmt.Errorf("%w (%w)", errMediaLost, why)
}
