//go:build unix

package proxies_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/freeport"
)

// traefikPath is a program that "make traefik" builds. It takes several minutes, so it is not part of "make needs".
const traefikPath = "../../bin/traefik"

// kinds are the proxies of the page, and the alternatives that it mentions.
func kinds(t *testing.T) []*kind {
	list := []*kind{
		nginx("nginx", true),
		nginx("nginx, TCP", false, change{"server unix:/run/watchbox/hub.sock; ", "server 127.0.0.1:1234; "}),
		caddy("Caddy", true),
		caddy("Caddy, TCP", false, change{"unix//run/watchbox/hub.sock", "127.0.0.1:1234"}),
		h2c(caddy("Caddy, h2c", false, change{"unix//run/watchbox/hub.sock", "h2c://127.0.0.1:1234"})),
	}
	if _, err := os.Stat(traefikPath); err != nil {
		t.Logf("without Traefik: %v (make traefik builds it)", err)
		return list
	}
	return append(list, traefik("Traefik"), h2c(traefik("Traefik, h2c", change{"url: http://", "url: h2c://"})))
}

func h2c(k *kind) *kind {
	k.flags = append(k.flags, "--h2c")
	return k
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// page returns the page's configuration for a proxy with the rig's addresses.
func (r *rig) page(name, has string, changes ...change) string {
	r.t.Helper()
	text := edit(r.t, block(r.t, name, has), changes...)
	for _, c := range r.changes {
		if strings.Contains(text, c.old) { // Traefik has two files
			text = strings.ReplaceAll(text, c.old, c.new)
		}
	}
	text = strings.ReplaceAll(text, "/run/watchbox/hub.sock", strings.TrimPrefix(r.hub.addr, "unix:"))
	return strings.ReplaceAll(text, "127.0.0.1:1234", r.hub.addr)
}

func nginx(name string, unix bool, changes ...change) *kind {
	return &kind{
		name: name, unix: unix, changes: changes, end: syscall.SIGTERM,
		idle: []change{{"proxy_read_timeout 60s", "proxy_read_timeout 3s"}}, cuts: true,
		write: func(r *rig, generation string) {
			write(r.t, filepath.Join(r.dir, "watchbox.conf"), r.page("/etc/nginx/conf.d/watchbox.conf", "",
				change{"listen 80;", "listen " + freeport.Addr(r.t) + ";"}, change{"listen 443 ", "listen " + r.addr + " "},
				change{"/etc/ssl/hub.example.org/fullchain.pem", r.cert}, change{"/etc/ssl/hub.example.org/key.pem", r.key},
				change{"/var/log/nginx", r.dir}, change{"client_max_body_size", "add_header X-Generation " + generation + " always; client_max_body_size"}))
			write(r.t, filepath.Join(r.dir, "nginx.conf"), strings.ReplaceAll(`daemon off;
user root;
worker_processes 2;
pid DIR/nginx.pid;
error_log stderr;
events {}
http {
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	include DIR/watchbox.conf;
}
`, "DIR", r.dir))
		},
		command: func(r *rig) *exec.Cmd {
			return exec.Command("nginx", "-e", "stderr", "-p", r.dir, "-c", filepath.Join(r.dir, "nginx.conf"))
		},
		reload: func(r *rig) { r.proxy.signal(syscall.SIGHUP) },
	}
}

func caddy(name string, unix bool, changes ...change) *kind {
	file := func(r *rig) string { return filepath.Join(r.dir, "Caddyfile") }
	admin := func(r *rig) string { return "unix/" + r.dir + "/admin.sock" }
	return &kind{
		name: name, unix: unix, changes: changes, end: syscall.SIGTERM,
		idle: []change{{":1234\n", ":1234 {\ntransport http {\nread_timeout 3s\n}\n}\n"}}, cuts: !unix, // Caddy has no timeout for Unix sockets
		write: func(r *rig, generation string) {
			write(r.t, file(r), "{\nadmin "+admin(r)+"\nauto_https disable_redirects\n}\n"+r.page("/etc/caddy/Caddyfile", "",
				change{"hub.example.org {", "hub.example.org:" + port(r.addr) + " {\nbind 127.0.0.1\ntls " + r.cert + " " + r.key + "\nheader X-Generation " + generation}))
		},
		command: func(r *rig) *exec.Cmd {
			cmd := exec.Command("caddy", "run", "--config", file(r), "--adapter", "caddyfile")
			cmd.Env = []string{"HOME=" + r.dir, "PATH=/usr/bin"}
			return cmd
		},
		reload: func(r *rig) {
			out, err := exec.Command("caddy", "reload", "--config", file(r), "--adapter", "caddyfile", "--address", admin(r)).CombinedOutput()
			if err != nil {
				r.t.Fatalf("%v: %s", err, out)
			}
		},
	}
}

func traefik(name string, changes ...change) *kind {
	return &kind{
		name: name, changes: changes, end: syscall.SIGKILL, // after SIGTERM it waits ten seconds for open streams
		idle: []change{{"address: 127.0.0.1", "transport: {respondingTimeouts: {readTimeout: 3s, idleTimeout: 3s}}\n    address: 127.0.0.1"}},
		write: func(r *rig, generation string) {
			write(r.t, filepath.Join(r.dir, "watchbox.yaml"), r.page("/etc/traefik/watchbox.yaml", "",
				change{"tls:\n        certResolver: letsencrypt", "tls: {}"},
				change{"middlewares: [compress]", "middlewares: [generation, compress]"},
				change{"  middlewares:\n    compress:", "  middlewares:\n    generation: {headers: {customResponseHeaders: {X-Generation: \"" + generation + "\"}}}\n    compress:"},
			)+"tls: {certificates: [{certFile: "+r.cert+", keyFile: "+r.key+"}]}\n")
			write(r.t, filepath.Join(r.dir, "traefik.yaml"), r.page("/etc/traefik/traefik.yaml", "",
				change{`":80"`, freeport.Addr(r.t)}, change{`":443"`, r.addr}, change{"/etc/traefik", r.dir}, change{"/var/lib/traefik", r.dir}))
		},
		command: func(r *rig) *exec.Cmd {
			return exec.Command(traefikPath, "--configFile="+filepath.Join(r.dir, "traefik.yaml"))
		},
		reload: func(*rig) {}, // it watches the file
	}
}

func port(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }
