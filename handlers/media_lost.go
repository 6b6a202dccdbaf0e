package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"parlor/room"
)

// errMediaLost is a 4xx although the fault is the server's: a picture of a large
// room that is lost would be hundreds of 5xx, for which load balancers take a server
// out that serves everything else. Its reply is never kept (answerError): the bytes
// may come back, from a backup.
var errMediaLost = newProblem(http.StatusGone, "media_lost", "The server has lost some or all bytes of the file: upload it again.")

// lostPause is how often at most the log tells of bytes that are lost. A folder that
// was emptied would be a line for each request otherwise.
const lostPause = time.Minute

// lostFiles counts requests for files whose bytes are lost.
type lostFiles struct {
	observe func() // may be nil

	mu      sync.Mutex // guards all below
	tellAt  time.Time
	silence int // what was noted since the last line
}

// note says that a file's bytes are not what its row says.
func (l *lostFiles) note(log *slog.Logger, m room.StoredMedia, why error) {
	if l.observe != nil {
		l.observe()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.tellAt) {
		l.silence++
		return
	}
	log.Error("media bytes lost", "mediaID", m.ID, "size", m.Size, "error", why, "alsoSinceTheLastLine", l.silence)
	l.tellAt, l.silence = now.Add(lostPause), 0
}

// lostMedia is what a caller is told of a file whose row is there and whose bytes are
// not, or are others: it is lost, unless it was deleted since the row was read.
func (a *api) lostMedia(ctx context.Context, user room.UserID, m room.StoredMedia, why error) error {
	_, err := shortly(ctx, func(ctx context.Context) (room.StoredMedia, error) { return a.Store.MediaFor(ctx, user, m.ID) })
	if err != nil {
		return err
	}
	a.lost.note(a.Log, m, why)
	return fmt.Errorf("%w (%w)", errMediaLost, why)
}

// errPieces says that the pieces of an upload are not what its rows say.
var errPieces = errors.New("pieces of an upload are lost")

// lostPieces is the same of an upload that cannot be put together: its client has to
// begin anew.
func (a *api) lostPieces(u room.Upload, why error) error {
	a.lost.note(a.Log, room.StoredMedia{Media: room.Media{ID: u.ID, Size: u.Length}}, why)
	return fmt.Errorf("%w (%w)", errMediaLost, why)
}
