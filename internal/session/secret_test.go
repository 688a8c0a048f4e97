package session

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestASecretIs16To128VisibleASCIICharacters(t *testing.T) {
	for s, ok := range map[string]bool{
		strings.Repeat("a", MinSecret):            true,
		strings.Repeat("~", MaxSecret):            true,
		strings.Repeat("a", MinSecret-1):          false,
		strings.Repeat("a", MaxSecret+1):          false,
		strings.Repeat("a", MinSecret) + " ":      false,
		strings.Repeat("a", MinSecret) + "\x7f":   false,
		strings.Repeat("a", MinSecret) + "\u00e9": false,
		"": false,
	} {
		if err := CheckSecret(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
	a, b := NewSecret(), NewSecret()
	if CheckSecret(a) != nil || a == b {
		t.Errorf("NewSecret returns %q and %q", a, b)
	}
}

// TestAUIDNeverChanges: other clients know a session by its uid, on every node and in every release.
func TestAUIDNeverChanges(t *testing.T) {
	const want = "9f9f5111-f7b2-8a78-9f1f-1ddde5ebc2dd" // output of sha256sum, with version and variant set
	if uid := UID("0123456789abcdef"); uid != want {
		t.Errorf("the uid is %s, want %s", uid, want)
	}
	u, err := uuid.Parse(want)
	if err != nil || u.Version() != 8 || u.Variant() != uuid.RFC4122 {
		t.Errorf("version %v, variant %v, %v", u.Version(), u.Variant(), err)
	}
}

// TestADeviceIsNamedByItsSubjectAndID: its uid never changes, and no other subject, id, protocol or secret has it.
func TestADeviceIsNamedByItsSubjectAndID(t *testing.T) {
	const want = "c51d6f18-e040-81c7-8da1-16a3ac9239a1" // printf 'mqtt\0anna\0device' | sha256sum, with version and variant set
	if uid := ClientUID("mqtt", "anna", "device"); uid != want {
		t.Errorf("the uid is %s, want %s", uid, want)
	}
	seen := map[string]string{}
	for _, uid := range []string{
		ClientUID("mqtt", "a", "b"), ClientUID("mqtt", "", "ab"), ClientUID("mqtt", "ab", ""), ClientUID("mqtt", "b", "a"),
		ClientUID("mqtt", "a\x00b", "c"), ClientUID("mqt", "ta", "b"), UID("mqttab0123456789"),
	} {
		if u, err := uuid.Parse(uid); err != nil || u.Version() != 8 || seen[uid] != "" {
			t.Errorf("%s: %v, or it is not the only one", uid, err)
		}
		seen[uid] = uid
	}
}
