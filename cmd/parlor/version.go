package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// VersionCmd prints the version of the program, of Go, and of the platform.
type VersionCmd struct{}

// Run prints one line, such as "parlor v1.2.0 3f2c1d0a9b7e go1.26.0 linux/amd64".
func (VersionCmd) Run(to console) error {
	_, err := fmt.Fprintf(to.out, "parlor %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// version returns the module's version and the commit, if the build recorded them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	version := info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			version += " " + setting.Value[:min(12, len(setting.Value))]
		}
	}
	return version
}
