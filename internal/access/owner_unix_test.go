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

func TestANewTokenFileBelongsToTheOwnerOfItsFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the owner of a file")
	}
	const nobody = 65534
	dir := t.TempDir()
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tokens.json")
	mint(t, path, access.APIToken{Name: "phone"})
	for _, file := range []string{path, path + ".lock"} {
		if uid := owner(t, file); uid != nobody {
			t.Errorf("%s belongs to %d", filepath.Base(file), uid)
		}
	}

	// The owner of the folder could name any file by a symbolic link. Its owner does not change.
	shadow := filepath.Join(t.TempDir(), "shadow")
	err := os.WriteFile(shadow, nil, 0o600)
	if err == nil {
		err = os.Remove(path + ".lock")
	}
	if err == nil {
		err = os.Symlink(shadow, path+".lock")
	}
	if err != nil {
		t.Fatal(err)
	}
	mint(t, path, access.APIToken{Name: "tablet"})
	if uid := owner(t, shadow); uid != 0 {
		t.Errorf("the target of the symbolic link belongs to %d", uid)
	}
}

func owner(t *testing.T, file string) uint32 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}
