package client

import "testing"

func TestProgramFailedIsNotTemporary(t *testing.T) {
	for e, want := range map[*Error]bool{
		{Status: 500, Code: "program-failed"}: false, {Status: 500, Code: "internal"}: true, {Status: 500}: true, {Status: 503, Code: "shutting-down"}: true,
	} {
		if e.temporary() != want {
			t.Errorf("%+v is temporary: %t", e, !want)
		}
	}
}
