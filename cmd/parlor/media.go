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
	// mediaInterval is how often unneeded files are deleted.
	mediaInterval = time.Minute
	// mediaCheckInterval is how often the folder or bucket is checked.
	mediaCheckInterval = 15 * time.Second
	// mediaCheckTimeout limits one check of a remote bucket.
	mediaCheckTimeout = 10 * time.Second
	// mediaStrayInterval is how often the whole folder is searched for unfinished files.
	mediaStrayInterval = 24 * time.Hour
	// mediaSample is how many files each check looks for.
	mediaSample = 3
)

// mediaKeeper maintains the uploaded files in the background: it deletes unneeded ones, and checks
// whether files can be stored and read. If they cannot, messages still work, so the server stays in
// service. It reports the problem in the log, the metrics and /readyz.
type mediaKeeper struct {
	store  *store.Store
	bucket *media.Bucket
	log    *slog.Logger
	total  int64 // limit for the bytes of all files; 0 means no limit

	problem atomic.Pointer[string] // problem of the bucket; nil means none
	lost    atomic.Int64           // requests for files whose bytes are lost
	bytes   atomic.Int64           // of all files, as counted for the quotas
	scarce  bool                   // total is nearly reached, and the log says so
}

// run maintains the files until the context ends. It has a goroutine of its own, because the sweep
// of the store must not wait for a slow bucket.
func (k *mediaKeeper) run(ctx context.Context) {
	sweeps, checks := time.NewTicker(mediaInterval), time.NewTicker(mediaCheckInterval)
	defer sweeps.Stop()
	defer checks.Stop()
	var straysAt time.Time
	for {
		if now := time.Now(); now.After(straysAt) {
			straysAt = now.Add(mediaStrayInterval)
			if err := k.bucket.RemoveStrays(ctx); err != nil && ctx.Err() == nil {
				k.log.Warn("media cleanup failed: unfinished files are left", "error", err)
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

// sweep deletes the files that are no longer needed.
func (k *mediaKeeper) sweep(ctx context.Context) {
	err := errors.Join(
		k.store.SweepMedia(ctx, func(ctx context.Context, id room.MediaID) error { return k.bucket.Delete(ctx, string(id)) }),
		k.store.SweepParts(ctx, func(ctx context.Context, id room.PartID) error { return k.bucket.Delete(ctx, string(id)) }),
	)
	if err != nil && ctx.Err() == nil {
		k.log.Error("media sweep failed", "error", err)
	}
}

// check checks whether files can be stored and read, and logs changes. Without the database it
// checks only the bucket.
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
			k.log.Warn("media storage nearly full: uploads will be rejected at PARLOR_MEDIA_TOTAL", "bytes", n, "limit", k.total)
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
			k.log.Error("media storage failed", "error", err)
		}
	}
}
