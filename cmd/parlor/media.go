package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"parlor/media"
	"parlor/room"
	"parlor/store"
)

const (
	// mediaInterval is how often files are looked for that are to be deleted.
	mediaInterval = time.Minute
	// mediaCheckInterval is how late it is seen that the folder or the bucket of files fails or is there again.
	mediaCheckInterval = 15 * time.Second
	// mediaCheckTimeout bounds one look at a bucket far away.
	mediaCheckTimeout = 10 * time.Second
	// mediaStrayInterval is how often the whole folder is gone through for what killed servers left in it.
	mediaStrayInterval = 24 * time.Hour
	// mediaSample is how many files are looked for at each check.
	mediaSample = 3
)

// mediaKeeper looks after the uploaded files beside the calls: it deletes those that nobody needs, and knows whether files
// can be stored and read. Where they cannot, messages go on, and so does the server: it says so in its log, in the metrics
// and in /readyz, and is not taken from its clients for it.
type mediaKeeper struct {
	store  *store.Store
	bucket *media.Bucket
	log    *slog.Logger
	total  int64 // bytes of files that all users may have; 0: any number

	problem atomic.Pointer[string] // what is wrong with the bucket; nil: nothing
	lost    atomic.Int64           // requests for files whose bytes are lost
	bytes   atomic.Int64           // of all files, as the quotas count them
	scarce  bool                   // the log has told that total is nearly reached
}

// run keeps the files until the context ends. It has a goroutine of its own, as a bucket far away may take its time, and
// timers must not wait for it.
func (k *mediaKeeper) run(ctx context.Context) {
	sweeps, checks := time.NewTicker(mediaInterval), time.NewTicker(mediaCheckInterval)
	defer sweeps.Stop()
	defer checks.Stop()
	var straysAt time.Time
	for {
		if now := time.Now(); now.After(straysAt) {
			straysAt = now.Add(mediaStrayInterval)
			if err := k.bucket.RemoveStrays(ctx); err != nil && ctx.Err() == nil {
				k.log.Warn("unfinished uploads of killed servers could not be removed", "error", err)
			}
		}
		select {
		case <-sweeps.C:
			k.sweep(ctx)
		case <-checks.C:
			k.check(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// sweep deletes the files that nobody needs.
func (k *mediaKeeper) sweep(ctx context.Context) {
	err := errors.Join(
		k.store.SweepMedia(ctx, func(ctx context.Context, id room.MediaID) error { return k.bucket.Delete(ctx, string(id)) }),
		k.store.SweepPieces(ctx, func(ctx context.Context, id room.PieceID) error { return k.bucket.Delete(ctx, string(id)) }),
	)
	if err != nil && ctx.Err() == nil {
		k.log.Error("files are not cleaned up", "error", err)
	}
}

// check looks whether files can be stored and read, and tells the log when that changes. Without the database it looks at
// the bucket only.
func (k *mediaKeeper) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, mediaCheckTimeout)
	defer cancel()
	known, err := k.store.SampleMedia(ctx, mediaSample)
	if err != nil {
		known = nil
	}
	if n, err := k.store.MediaBytes(ctx); err == nil {
		k.bytes.Store(n)
		scarce := k.total > 0 && n > k.total/10*9
		if scarce && !k.scarce {
			k.log.Warn("files take nine tenths of PARLOR_MEDIA_TOTAL; uploads are refused when all of it is taken", "bytes", n, "most", k.total)
		}
		k.scarce = scarce
	}
	sample := make([]media.Stored, len(known))
	for i, m := range known {
		sample[i] = media.Stored{Name: string(m.ID), Size: m.Size}
	}
	err = k.bucket.Check(ctx, sample)
	switch before := k.problem.Load(); {
	case errors.Is(err, context.Canceled): // the server stops
	case err == nil:
		k.problem.Store(nil)
		if before != nil {
			k.log.Info("media storage works again")
		}
	default:
		problem := err.Error()
		k.problem.Store(&problem)
		if before == nil {
			k.log.Error("media storage fails", "error", err)
		}
	}
}
