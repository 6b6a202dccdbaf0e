package media

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestIdentityOfFolders(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	ids := make([]string, 8)
	var creating sync.WaitGroup
	for i := range ids {
		b := openAt(t, "file://"+folder)
		creating.Go(func() {
			var err error
			if ids[i], err = b.Identity(); err != nil {
				t.Error(err)
			}
		})
	}
	creating.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("servers that open a folder at once get the IDs %q", ids)
		}
	}
	if got := files(t, folder); len(got) != 1 {
		t.Errorf("files: %q", got)
	}
	err := openAt(t, folder).List(t.Context(), func(l Listed) error {
		t.Errorf("listed: %+v", l)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	other, err := openAt(t, t.TempDir()).Identity()
	if err != nil || other == ids[0] {
		t.Errorf("another folder has the ID %q, %v", other, err)
	}

	path := filepath.Join(folder, identityFile)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openAt(t, folder).Identity(); err == nil || !strings.Contains(err.Error(), path+" is damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestIdentityOfBuckets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ address, want string }{
		{"s3://files?region=us-east-1", "s3://files/"},
		{"s3://files?region=us-east-1&prefix=chat", "s3://files/chat"},
	} {
		if got, err := openAt(t, tt.address).Identity(); got != tt.want || err != nil {
			t.Errorf("Identity of %s = %s, %v", tt.address, got, err)
		}
	}
}
