package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asProgram is the environment variable that turns the test program into parlor-bench itself.
const asProgram = "PARLOR_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
