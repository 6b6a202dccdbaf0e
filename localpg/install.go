package localpg

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestMajor is the oldest major version of PostgreSQL that Parlor's SQL runs on.
const oldestMajor = 15

// install is a folder that contains the programs initdb and postgres.
type install struct {
	dir   string
	major int
}

// installFolders returns the folders that may contain PostgreSQL's programs, in order of
// preference: those in PATH, then those in which the packages of distributions and Homebrew install
// programs that are not in PATH.
func installFolders() []string {
	folders := filepath.SplitList(os.Getenv("PATH"))
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // the PostgreSQL project's RPMs
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		slices.SortStableFunc(matches, func(a, b string) int { return folderVersion(b) - folderVersion(a) })
		folders = append(folders, matches...)
	}
	return folders
}

var number = regexp.MustCompile(`\d+`)

// folderVersion returns the version in a name such as /usr/lib/postgresql/15/bin, or 0.
func folderVersion(folder string) int {
	version, _ := strconv.Atoi(number.FindString(folder))
	return version
}

// findInstalls returns the usable installs among the folders, in their order. It skips a folder
// whose programs the database user may not run.
func findInstalls(ctx context.Context, folders []string, as account) []install {
	var found []install
	for _, folder := range folders {
		// The programs look for their shared files beside their real path, so links are resolved
		// here.
		program, err := filepath.EvalSymlinks(filepath.Join(folder, "postgres"))
		if err != nil || !filepath.IsAbs(program) {
			continue
		}
		dir := filepath.Dir(program)
		if slices.ContainsFunc(found, func(i install) bool { return i.dir == dir }) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		if major, err := programMajor(ctx, program, as); err == nil {
			found = append(found, install{dir: dir, major: major})
		}
	}
	return found
}

// programMajor returns the major version of a postgres program: 15 for "postgres (PostgreSQL) 15.18
// (Debian 15.18-1)".
func programMajor(ctx context.Context, program string, as account) (int, error) {
	output, err := as.command(ctx, program, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", program, err)
	}
	_, version, _ := strings.Cut(string(output), "(PostgreSQL) ")
	major, err := strconv.Atoi(number.FindString(version))
	if err != nil {
		return 0, fmt.Errorf("%s --version: no version in %q", program, output)
	}
	return major, nil
}

// chooseInstall returns the install for a cluster of the given major version, or for a new cluster
// if that is 0.
func chooseInstall(installs []install, dir string, major int) (install, error) {
	for _, i := range installs {
		if i.major == major || major == 0 && i.major >= oldestMajor {
			return i, nil
		}
	}
	switch {
	case len(installs) > 0 && major != 0:
		return install{}, fmt.Errorf("the database in %s was created by PostgreSQL %d, but only %s is installed: "+
			"install PostgreSQL %d, or set DATABASE_URL", dir, major, listInstalls(installs), major)
	case len(installs) > 0:
		return install{}, fmt.Errorf("PostgreSQL %d or newer is needed, but only %s is installed: %s",
			oldestMajor, listInstalls(installs), howToInstall)
	default:
		return install{}, fmt.Errorf("PostgreSQL %d or newer was not found: %s", oldestMajor, howToInstall)
	}
}

const howToInstall = "install it (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; " +
	"Alpine: apk add postgresql; macOS: brew install postgresql@17), or set DATABASE_URL to a database of your own"

func listInstalls(installs []install) string {
	var names []string
	for _, i := range installs {
		names = append(names, fmt.Sprintf("PostgreSQL %d (%s)", i.major, i.dir))
	}
	return strings.Join(names, ", ")
}
