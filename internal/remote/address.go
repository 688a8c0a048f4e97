package remote

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Address returns the address of a hub as a URL without a slash at its end. HOST:PORT is short for http://HOST:PORT.
func Address(address string) (string, error) {
	full := address
	if !strings.Contains(address, "://") {
		full = "http://" + address
	}
	u, err := url.Parse(full)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "",
		full != address && u.Port() == "", !validPort(u),
		u.RawQuery != "" || u.ForceQuery, u.Fragment != "":
		return "", fmt.Errorf("%q is not the address of a hub: write HOST:PORT, or a URL such as http://127.0.0.1:1234 or https://example.org/hub", address)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func validPort(u *url.URL) bool {
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Port() == "" && !strings.HasSuffix(u.Host, ":") || err == nil && port > 0
}
