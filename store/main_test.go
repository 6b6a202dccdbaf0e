package store_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"parlor/store/storetest"
)

func TestMain(m *testing.M) {
	code := storetest.Main(m, checkPlans)
	if err := goleak.Find(); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}
