package localpg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// systemFolder contains the clusters of root whose own folders the database user cannot reach, such
// as /root/parlor.
const systemFolder = "/var/lib/parlor"

// cluster is a PostgreSQL data folder that is ready to be served.
type cluster struct {
	dir     string // the real folder, never a link
	account account
	install install
}

// openCluster finds PostgreSQL's programs and the cluster's folder, and creates the cluster if
// there is none.
func openCluster(ctx context.Context, o Options, log *slog.Logger) (cluster, error) {
	wanted, err := filepath.Abs(o.Dir)
	if err != nil {
		return cluster{}, fmt.Errorf("database folder %s: %w", o.Dir, err)
	}
	as, err := accountFor(wanted)
	if err != nil {
		return cluster{}, err
	}
	installs := findInstalls(ctx, installFolders(), as)
	if len(installs) == 0 {
		_, err := chooseInstall(nil, wanted, 0)
		return cluster{}, err
	}
	if err := os.MkdirAll(filepath.Dir(wanted), 0o755); err != nil {
		return cluster{}, fmt.Errorf("create the folder above %s: %w", wanted, err)
	}
	dir, err := realFolder(ctx, wanted, as, installs[0])
	if err != nil {
		return cluster{}, err
	}
	if as, err = accountFor(dir); err != nil {
		return cluster{}, err
	}
	major, err := clusterMajor(dir)
	if err != nil {
		return cluster{}, err
	}
	chosen, err := chooseInstall(installs, dir, major)
	if err != nil {
		return cluster{}, err
	}

	c := cluster{dir: dir, account: as, install: chosen}
	c.removeUnfinished(log)
	if major == 0 {
		log.Info("creating a private PostgreSQL", "folder", dir, "version", chosen.major)
		if err := c.create(ctx, o.Settings["fsync"] != "off"); err != nil {
			return cluster{}, err
		}
	} else if err := c.takeFromRoot(); err != nil {
		return cluster{}, err
	}
	if err := linkTo(wanted, dir, log); err != nil {
		return cluster{}, err
	}
	return c, nil
}

// realFolder returns the folder of the cluster: the wanted one, or one under /var/lib/parlor if the
// database user cannot reach the wanted one.
func realFolder(ctx context.Context, wanted string, as account, probe install) (string, error) {
	info, err := os.Lstat(wanted)
	switch {
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		dir, err := filepath.EvalSymlinks(wanted)
		if err != nil {
			// A new cluster here would hide that the data is missing.
			return "", fmt.Errorf("database folder %s is a symbolic link without a target: restore the target, or remove the link "+
				"to start with an empty database: %w", wanted, err)
		}
		return dir, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("database folder: %w", err)
	}

	parent := filepath.Dir(wanted)
	canEnter, err := as.canEnter(ctx, parent, probe)
	if err != nil {
		return "", err
	}
	if canEnter {
		return wanted, nil
	}
	if major, err := clusterMajor(wanted); err != nil {
		return "", err
	} else if major != 0 {
		return "", fmt.Errorf("the database in %s cannot be reached by user %s, which runs PostgreSQL: "+
			"let other users traverse the folders above it (chmod o+x), or move it", wanted, as.name)
	}
	sum := sha256.Sum256([]byte(wanted))
	return filepath.Join(systemFolder, hex.EncodeToString(sum[:6])), nil
}

// linkTo makes the wanted folder a link to the real one, unless it already is.
func linkTo(wanted, dir string, log *slog.Logger) error {
	if wanted == dir {
		return nil
	}
	if info, err := os.Lstat(wanted); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	// There may be an empty folder instead of the link.
	if err := os.Remove(wanted); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s by a link: %w", wanted, err)
	}
	if err := os.Symlink(dir, wanted); err != nil {
		return fmt.Errorf("link the database folder: %w", err)
	}
	log.Warn("the database is stored in another folder: the user that runs PostgreSQL cannot reach the wanted one",
		"wanted", wanted, "folder", dir)
	return syncDir(filepath.Dir(wanted))
}

// canEnter reports whether the account may enter a folder. It runs a program in the folder to find
// out, because access lists and mount options count as much as permission bits.
func (a account) canEnter(ctx context.Context, dir string, probe install) (bool, error) {
	if !a.switched {
		return true, nil
	}
	cmd := a.command(ctx, filepath.Join(probe.dir, "postgres"), "--version")
	cmd.Dir = dir
	err := cmd.Run()
	if errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("enter %s as user %s: %w", dir, a.name, err)
	}
	return true, nil
}

// clusterMajor returns the major version of the cluster in dir, or 0 if dir is missing or empty.
func clusterMajor(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, versionFile))
	if err == nil {
		major, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if blank(text) {
			if major = lostVersion(dir); major != 0 {
				return major, nil
			}
		}
		if err != nil {
			return 0, fmt.Errorf("database folder %s: %s contains %q, which is not a version number: restore the folder from a backup, "+
				"or move it away to start with an empty database", dir, versionFile, text)
		}
		return major, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("database folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("database folder: %w", err)
	}
	if len(entries) > 0 {
		return 0, fmt.Errorf("folder %s is neither empty nor a PostgreSQL database: choose another data folder, restore the "+
			"folder from a backup, or move it away to start with an empty database", dir)
	}
	return 0, nil
}

// create makes the cluster in a temporary folder and renames it when it is complete, so that a
// power cut never leaves half a cluster that looks like a whole one.
func (c cluster) create(ctx context.Context, durable bool) error {
	// The database user must pass through this folder. The cluster itself is private.
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o755); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	// The name is unique because the initdb of a killed Parlor may still be removing its files.
	unfinished, err := os.MkdirTemp(filepath.Dir(c.dir), filepath.Base(c.dir)+".initdb-*.new") // 0700
	if err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	if err := c.account.own(unfinished); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}

	args := []string{
		"--pgdata", unfinished, "--username", owner, "--encoding", "UTF8", "--locale", "C", "--data-checksums",
		// Every user that can reach the socket may log in. Its folder has mode 0700, so that these
		// are only the database user and root.
		"--auth", "trust",
	}
	if !durable {
		args = append(args, "--no-sync")
	}
	// The parent-death signal needs a thread that stays. See supervise.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if output, err := c.command(ctx, "initdb", args...).CombinedOutput(); err != nil {
		line := errorLine(string(output))
		return fmt.Errorf("create the database with initdb: %w: %s%s", err, line, remedy(filepath.Dir(c.dir), line))
	}
	if err := os.Rename(unfinished, c.dir); err != nil {
		return fmt.Errorf("move the new database into place: %w", err)
	}
	return syncDir(filepath.Dir(c.dir))
}

// removeUnfinished removes clusters that were being created when their Parlor was killed.
func (c cluster) removeUnfinished(log *slog.Logger) {
	for _, pattern := range []string{".new", ".initdb-*.new"} {
		// This fails only if the folder's name contains a bracket, which must not prevent a start.
		found, _ := filepath.Glob(c.dir + pattern)
		for _, unfinished := range found {
			log.Info("removing an unfinished database", "folder", unfinished)
			if err := os.RemoveAll(unfinished); err != nil {
				log.Warn("removing an unfinished database failed", "folder", unfinished, "error", err)
			}
		}
	}
}

// takeFromRoot gives a cluster that root restored from a backup to the database user. Other
// clusters are left alone, because accountFor runs PostgreSQL as their owner.
func (c cluster) takeFromRoot() error {
	if !c.account.switched {
		return nil
	}
	info, err := os.Stat(c.dir)
	if err != nil {
		return fmt.Errorf("database folder: %w", err)
	}
	if uid, _ := ownerOf(info); uid != 0 {
		return nil
	}
	if err := c.account.ownTree(c.dir); err != nil {
		return fmt.Errorf("give the database folder to user %s: %w", c.account.name, err)
	}
	return nil
}

// syncDir makes a rename or a new name in dir survive a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}
