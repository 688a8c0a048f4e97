//go:build !windows

package mqtt_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheDocumentedCommands runs the sh blocks of docs/MQTT.md, and looks for what they show in their output.
func TestTheDocumentedCommands(t *testing.T) {
	b := hub(t, "--data-dir", t.TempDir())
	page, err := os.ReadFile("../../docs/MQTT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(b.addr, ":")
	here := strings.NewReplacer("http://127.0.0.1:1234", b.url, "-p 1883", "-h 127.0.0.1 -p "+port)
	var script string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		script += here.Replace(block[1])
	}
	c := start(t, "bash", "-c", script+"wait") // for curl, which ends with the hub
	missing := map[string]bool{`"msg":{"celsius":21}`: true, `"msg":"the kettle is on"`: true, "home/kitchen the kettle is on": true}
	for len(missing) > 0 {
		for _, line := range c.until("") {
			for text := range missing {
				if strings.Contains(line, text) {
					delete(missing, text)
				}
			}
		}
	}
}
