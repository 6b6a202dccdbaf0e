package localpg

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// helperDir is the environment variable that turns the test program into the parent that a test
// kills.
const helperDir = "LOCALPG_HELPER_DIR"

// templateFolder contains the cluster of template, if it was created.
var templateFolder string

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		helper(dir)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(templateFolder)
		os.Exit(code)
	}))
}

// helper starts the cluster, prints its URL, and waits to be killed.
func helper(dir string) {
	server, err := Start(context.Background(), Options{
		Dir:      dir,
		Log:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Settings: quick(),
	})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(server.URL())
	<-make(chan struct{})
}

// quick returns settings for data that may be lost.
func quick() map[string]string {
	return map[string]string{"fsync": "off", "shared_buffers": "16MB", "max_connections": "20"}
}
