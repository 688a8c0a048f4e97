//go:build unix

package access_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/watchbox-go/watchbox/internal/access"
)

// The hub's own user must be able to read a file that root has edited.
func TestATokenFileKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the owner of a file")
	}
	path := filepath.Join(t.TempDir(), "tokens.json")
	mint(t, path, access.APIToken{Name: "phone"})
	const nobody = 65534
	if err := os.Chown(path, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	mint(t, path, access.APIToken{Name: "tablet"})
	if err := access.RemoveToken(path, "phone"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != nobody || s.Gid != nobody || info.Mode().Perm() != 0o600 {
		t.Errorf("the file belongs to %d:%d with mode %v", s.Uid, s.Gid, info.Mode())
	}
}
