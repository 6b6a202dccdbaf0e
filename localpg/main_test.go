package localpg

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// helperDir names the environment variable that turns the test program into the parent that a test kills.
const helperDir = "LOCALPG_HELPER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		helper(dir)
	}
	goleak.VerifyTestMain(m)
}

// helper starts the cluster, says so, and waits to be killed.
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

// quick are settings for data that nobody will miss.
func quick() map[string]string {
	return map[string]string{"fsync": "off", "shared_buffers": "16MB", "max_connections": "20"}
}
