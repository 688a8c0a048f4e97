package watchbox_test

import (
	"encoding/json"
	"slices"
	"testing"
)

// TestPresenceListsSessionsWithOverlappingFilters also covers pairs of filters that have groups in common although
// neither covers the other.
func TestPresenceListsSessionsWithOverlappingFilters(t *testing.T) {
	_, addr := serve(t)
	p := at(t, addr)
	names := map[string]string{} // of sessions, by uid
	for _, f := range []string{"home/%23", "home/kitchen/%2B", "home/%2B/temp", "home/hall/temp", "garden", "%23", "$sys/%23"} {
		names[p.listen("/v1/groups/"+f, "").uid] = f
	}
	for asked, want := range map[string][]string{
		"home/%2B":         {"%23", "home/%23"},
		"home":             {"%23", "home/%23"},
		"home/%2B/temp":    {"%23", "home/%23", "home/%2B/temp", "home/hall/temp", "home/kitchen/%2B"},
		"home/kitchen/%2B": {"%23", "home/%23", "home/%2B/temp", "home/kitchen/%2B"},
		"%2B/hall/%23":     {"%23", "home/%23", "home/%2B/temp", "home/hall/temp"},
		"garden/%23":       {"%23", "garden"},
		"$sys/stats":       {"$sys/%23"},
	} {
		var got struct{ Presence []struct{ UID string } }
		if err := json.Unmarshal([]byte(p.wants(200, "GET /v1/presence/"+asked, "")), &got); err != nil {
			t.Fatal(err)
		}
		var who []string
		for _, s := range got.Presence {
			who = append(who, names[s.UID])
		}
		if slices.Sort(who); !slices.Equal(who, want) {
			t.Errorf("%s: %v, want %v", asked, who, want)
		}
	}
}
