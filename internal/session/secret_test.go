package session

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestWhatASecretMayBe(t *testing.T) {
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
		t.Errorf("given secrets: %q, %q", a, b)
	}
}

// The uid is what others know a session by, on every node and after every release.
func TestAUIDNeverChanges(t *testing.T) {
	const want = "9f9f5111-f7b2-8a78-9f1f-1ddde5ebc2dd" // sha256sum's, with the version and the variant set
	if uid := UID("0123456789abcdef"); uid != want {
		t.Errorf("the uid is %s, and was %s", uid, want)
	}
	u, err := uuid.Parse(want)
	if err != nil || u.Version() != 8 || u.Variant() != uuid.RFC4122 {
		t.Errorf("version %v, variant %v, %v", u.Version(), u.Variant(), err)
	}
}
