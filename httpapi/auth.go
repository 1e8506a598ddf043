package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// A gate decides which requests come in at all. It is one middleware for every route,
// known or not, so that no route can be forgotten.
type gate struct {
	token   *[sha256.Size]byte // nil: none is asked for
	hosts   []string
	origins []string
	a       *api
}

func newGate(cfg Config, a *api) *gate {
	g := &gate{hosts: cfg.AllowHosts, origins: cfg.AllowOrigins, a: a}
	if cfg.Token != "" {
		sum := sha256.Sum256([]byte(cfg.Token))
		g.token = &sum
	}
	return g
}

// admit lets a request through or answers 401 or 403. The order matters: a page of another
// site learns nothing, not even whether a token is needed, and a browser asks whether it
// may send a token before it sends one.
func (g *gate) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.checkSource(r); err != nil {
			g.a.fail(w, r, err)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" && g.allowsOrigin(origin) {
			grant(w.Header(), origin)
			if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		if err := g.checkToken(r); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			g.a.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkSource looks at where a request comes from and whom it takes us for.
func (g *gate) checkSource(r *http.Request) error {
	origin := r.Header.Get("Origin")
	foreign := origin != "" && !sameHost(origin, r.Host) || r.Header.Get("Sec-Fetch-Site") == "cross-site"
	if foreign && !g.allowsOrigin(origin) {
		return refuse(http.StatusForbidden, codeForbidden, "a page of another site (origin %.200q) may not call this server; --allow-origin would let it", origin)
	}
	// With a token, a page that got here under another name cannot do anything. Probes
	// carry nothing worth hiding, and come under whatever address the machine has.
	if g.token == nil && !isProbe(r.URL.Path) && !g.allowsHost(r.Host) {
		return refuse(http.StatusForbidden, codeForbidden, "the host %.200q is not one of this server's; --allow-host would make it one, and with a token any would do", r.Host)
	}
	return nil
}

func isProbe(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/ping"
}

// isOpen reports whether a path is served without a token.
func isOpen(path string) bool {
	return path == "/" || isProbe(path) || path == "/favicon.ico" || strings.HasPrefix(path, assets)
}

func (g *gate) checkToken(r *http.Request) error {
	if g.token == nil || isOpen(r.URL.Path) {
		return nil
	}
	shown := false
	for _, token := range tokens(r) {
		shown = true
		// Both sides are hashed, so that the time taken tells not even the length.
		sum := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1 {
			return nil
		}
	}
	if shown {
		return refuse(http.StatusUnauthorized, codeUnauthorized, "the token is wrong")
	}
	return refuse(http.StatusUnauthorized, codeUnauthorized, "a token is needed: send Authorization: Bearer TOKEN or X-EXECD-ACCESS-TOKEN: TOKEN")
}

// tokens lists what a request shows as its token. A browser cannot set headers on a
// WebSocket, so there it comes as a subprotocol.
func tokens(r *http.Request) (found []string) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		found = append(found, strings.TrimSpace(token))
	}
	if token := r.Header.Get("X-EXECD-ACCESS-TOKEN"); token != "" {
		found = append(found, token)
	}
	if !listed(r.Header, "Upgrade", "websocket") {
		return found
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for protocol := range strings.SplitSeq(line, ",") {
			encoded, ok := strings.CutPrefix(strings.TrimSpace(protocol), "bearer.")
			if token, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "=")); ok && err == nil {
				found = append(found, string(token))
			}
		}
	}
	return found
}

// allowsHost keeps out requests that a name of somebody else's, pointed at this machine,
// brought here: without a token, being reachable would be being allowed.
func (g *gate) allowsHost(host string) bool {
	name := hostName(host)
	if ip := net.ParseIP(name); name == "localhost" || strings.HasSuffix(name, ".localhost") || ip != nil && ip.IsLoopback() {
		return true
	}
	for _, allowed := range g.hosts {
		if strings.EqualFold(allowed, host) || strings.EqualFold(strings.Trim(allowed, "[]"), name) {
			return true
		}
	}
	return false
}

// hostName is a Host header without its port, the brackets of an address or a last dot.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

func (g *gate) allowsOrigin(origin string) bool {
	for _, allowed := range g.origins {
		if strings.EqualFold(strings.TrimSuffix(allowed, "/"), origin) {
			return true
		}
	}
	return false
}

// sameHost reports whether an Origin is the server the request went to.
func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	port := map[string]string{"http": ":80", "https": ":443"}[strings.ToLower(u.Scheme)]
	bare := func(s string) string { return strings.TrimSuffix(strings.ToLower(s), port) }
	return bare(u.Host) == bare(host)
}

// grant lets the scripts of an allowed foreign origin read the answer.
func grant(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, X-EXECD-ACCESS-TOKEN, X-Request-Id")
	h.Set("Access-Control-Expose-Headers", "X-Request-Id")
	h.Set("Access-Control-Max-Age", "600")
}
