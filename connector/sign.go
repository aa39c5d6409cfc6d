package connector

import (
	"cmp"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway/grant"
)

// signing is a Sign with its templates compiled.
type signing struct {
	wsse   map[string]*template
	sigv4  map[string]*template
	oauth1 map[string]*template
	digest string // of wsse
	hash   bool   // of oauth1
}

func (c *compiler) signing(path string, s *Sign) *signing {
	if s == nil {
		return nil
	}
	out := &signing{}
	texts := func(kind string, fields map[string]string) map[string]*template {
		m := map[string]*template{}
		for name, text := range fields {
			m[name] = c.text(join(join(path, kind), name), text)
		}
		return m
	}
	set := 0
	if w := s.WSSE; w != nil {
		set++
		out.digest = w.Digest
		out.wsse = texts("wsse", map[string]string{"username": w.Username, "password": w.Password})
		if w.Digest != "" && w.Digest != "hex" {
			c.problem(join(path, "wsse.digest"), "", "must be hex, or left out")
		}
	}
	if w := s.SigV4; w != nil {
		set++
		out.sigv4 = texts("sigv4", map[string]string{"access_key": w.AccessKey, "secret_key": w.SecretKey, "session_token": w.SessionToken, "region": w.Region, "service": w.Service})
	}
	if w := s.OAuth1; w != nil {
		set++
		out.hash = w.BodyHash
		out.oauth1 = texts("oauth1", map[string]string{"consumer_key": w.ConsumerKey, "consumer_secret": w.ConsumerSecret,
			"token": w.Token, "token_secret": w.TokenSecret, "key": w.Key, "method": w.Method, "realm": w.Realm})
		if !strings.Contains(w.Method, "{{") && !slices.Contains([]string{"", "HMAC-SHA1", "HMAC-SHA256", "RSA-SHA1", "RSA-SHA256", "PLAINTEXT"}, w.Method) {
			c.problem(join(path, "oauth1.method"), "", "must be HMAC-SHA1, HMAC-SHA256, RSA-SHA1, RSA-SHA256 or PLAINTEXT")
		}
	}
	if set != 1 {
		c.problem(path, "", "must have one of wsse, sigv4 and oauth1")
	}
	return out
}

// sign adds to req, whose body is body, what proves who sends it.
func (g *signing) sign(req *http.Request, body []byte, s *scope) error {
	fields := g.wsse
	if g.sigv4 != nil {
		fields = g.sigv4
	} else if g.oauth1 != nil {
		fields = g.oauth1
	}
	v := map[string]string{}
	for name, t := range fields {
		text, err := t.eval(s)
		if err != nil {
			return fmt.Errorf("signing: %s: %w", name, err)
		}
		v[name] = text
	}
	if s.mask {
		switch {
		case g.wsse != nil:
			req.Header.Set("X-WSSE", "UsernameToken "+masked)
		case g.sigv4 != nil:
			req.Header.Set("Authorization", "AWS4-HMAC-SHA256 "+masked)
		default:
			req.Header.Set("Authorization", "OAuth "+masked)
		}
		return nil
	}
	switch {
	case g.wsse != nil:
		return signWSSE(req, v, g.digest, s.clock)
	case g.sigv4 != nil:
		return signSigV4(req, body, v, s.clock.now())
	}
	return signOAuth1(req, body, v, g.hash, s.clock)
}

// signWSSE sets X-WSSE: a UsernameToken whose digest is Base64(SHA-1(nonce + created + password)).
// The header has the nonce in base64. With digest hex the SHA-1 is in hexadecimal digits before
// base64, and the nonce stands in the header as it is.
func signWSSE(req *http.Request, v map[string]string, digest string, c *clock) error {
	random := c.random()
	digits := hex.EncodeToString(random[:])
	nonce, created := base64.StdEncoding.EncodeToString([]byte(digits)), c.now().UTC().Format(time.RFC3339)
	sum := sha1.Sum([]byte(digits + created + v["password"]))
	proof := sum[:]
	if digest == "hex" {
		nonce, proof = digits, []byte(hex.EncodeToString(sum[:]))
	}
	if strings.ContainsAny(v["username"], "\"\\\r\n") {
		return errors.New("signing: the user name has a character that X-WSSE cannot have")
	}
	req.Header.Set("X-WSSE", fmt.Sprintf(`UsernameToken Username="%s", PasswordDigest="%s", Nonce="%s", Created="%s"`,
		v["username"], base64.StdEncoding.EncodeToString(proof), nonce, created))
	return nil
}

// signSigV4 signs as the AWS documentation of Signature Version 4 says: a canonical request,
// its digest in a string to sign, and a key derived from the secret for day, region and service.
func signSigV4(req *http.Request, body []byte, v map[string]string, now time.Time) error {
	if v["access_key"] == "" || v["secret_key"] == "" || v["region"] == "" || v["service"] == "" {
		return errors.New("signing: access key, secret key, region and service are required")
	}
	stamp := now.UTC().Format("20060102T150405Z")
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Date", stamp)
	if v["service"] == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", digest)
	}
	if v["session_token"] != "" {
		req.Header.Set("X-Amz-Security-Token", v["session_token"])
	}
	headers := map[string]string{"host": cmp.Or(req.Host, req.URL.Host)}
	for name, values := range req.Header {
		if low := strings.ToLower(name); low == "content-type" || strings.HasPrefix(low, "x-amz-") {
			headers[low] = strings.Join(strings.Fields(strings.Join(values, ",")), " ")
		}
	}
	names := slices.Sorted(maps.Keys(headers))
	var canonical strings.Builder
	path := req.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	if v["service"] != "s3" { // other services want every segment encoded twice
		segments := strings.Split(path, "/")
		for i := range segments {
			segments[i] = percent(segments[i])
		}
		path = strings.Join(segments, "/")
	}
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", req.Method, path, sortedQuery(req.URL.Query()))
	for _, name := range names {
		fmt.Fprintf(&canonical, "%s:%s\n", name, headers[name])
	}
	signed := strings.Join(names, ";")
	fmt.Fprintf(&canonical, "\n%s\n%s", signed, digest)

	scope := strings.Join([]string{stamp[:8], v["region"], v["service"], "aws4_request"}, "/")
	sum = sha256.Sum256([]byte(canonical.String()))
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + v["secret_key"])
	for part := range strings.SplitSeq(scope, "/") {
		key = hmacSHA256(key, part)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		v["access_key"], scope, signed, hex.EncodeToString(hmacSHA256(key, toSign))))
	return nil
}

func hmacSHA256(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// sortedQuery is a query in the order of its percent-encoded names and values.
func sortedQuery(query url.Values) string {
	var list []string
	for name, values := range query {
		for _, value := range values {
			list = append(list, percent(name)+"="+percent(value))
		}
	}
	slices.Sort(list)
	return strings.Join(list, "&")
}

// signOAuth1 sets the Authorization header of RFC 5849 section 3.5.1.
func signOAuth1(req *http.Request, body []byte, v map[string]string, bodyHash bool, c *clock) error {
	method := cmp.Or(v["method"], "HMAC-SHA256")
	random := c.random()
	oauth := map[string]string{
		"oauth_consumer_key":     v["consumer_key"],
		"oauth_nonce":            hex.EncodeToString(random[:]),
		"oauth_signature_method": method,
		"oauth_timestamp":        fmt.Sprint(c.now().Unix()),
		"oauth_version":          "1.0",
	}
	if v["token"] != "" {
		oauth["oauth_token"] = v["token"]
	}
	if bodyHash && !isForm(req) {
		sum := sha256.Sum256(body)
		hash := sum[:]
		if strings.HasSuffix(method, "SHA1") {
			old := sha1.Sum(body)
			hash = old[:]
		}
		oauth["oauth_body_hash"] = base64.StdEncoding.EncodeToString(hash)
	}
	base, err := oauth1Base(req, body, oauth)
	if err != nil {
		return err
	}
	signature, err := oauth1Signature(method, base, v)
	if err != nil {
		return err
	}
	oauth["oauth_signature"] = signature
	var parts []string
	if v["realm"] != "" {
		if strings.ContainsAny(v["realm"], "\"\\\r\n") {
			return errors.New("signing: the realm has a character that it cannot have")
		}
		parts = append(parts, `realm="`+v["realm"]+`"`)
	}
	for _, name := range slices.Sorted(maps.Keys(oauth)) {
		parts = append(parts, name+`="`+percent(oauth[name])+`"`)
	}
	req.Header.Set("Authorization", "OAuth "+strings.Join(parts, ", "))
	return nil
}

// oauth1Base is the signature base string of RFC 5849 section 3.4.1.
func oauth1Base(req *http.Request, body []byte, oauth map[string]string) (string, error) {
	parameters := req.URL.Query()
	if isForm(req) {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return "", errors.New("signing: the body is not a form")
		}
		for name, values := range form {
			parameters[name] = append(parameters[name], values...)
		}
	}
	for name, value := range oauth {
		parameters.Set(name, value)
	}
	u := url.URL{Scheme: strings.ToLower(req.URL.Scheme), Host: strings.ToLower(cmp.Or(req.Host, req.URL.Host)), Path: req.URL.Path, RawPath: req.URL.RawPath}
	u.Host = strings.TrimSuffix(u.Host, map[string]string{"https": ":443", "http": ":80"}[u.Scheme])
	return strings.Join([]string{req.Method, percent(u.String()), percent(sortedQuery(parameters))}, "&"), nil
}

func isForm(req *http.Request) bool {
	media, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	return media == formType
}

func oauth1Signature(method, base string, v map[string]string) (string, error) {
	key := percent(v["consumer_secret"]) + "&" + percent(v["token_secret"])
	var signature []byte
	switch method {
	case "PLAINTEXT":
		return key, nil
	case "HMAC-SHA1":
		m := hmac.New(sha1.New, []byte(key))
		m.Write([]byte(base))
		signature = m.Sum(nil)
	case "HMAC-SHA256":
		signature = hmacSHA256([]byte(key), base)
	case "RSA-SHA1", "RSA-SHA256":
		private, err := grant.ParseSigningKey([]byte(v["key"]))
		if err != nil {
			return "", fmt.Errorf("signing: %w", err)
		}
		if _, ok := private.Public().(*rsa.PublicKey); !ok {
			return "", errors.New("signing: the key is not an RSA key")
		}
		hash, sum := crypto.SHA1, sha1.New()
		if method == "RSA-SHA256" {
			hash, sum = crypto.SHA256, sha256.New()
		}
		sum.Write([]byte(base))
		if signature, err = private.Signer().Sign(rand.Reader, sum.Sum(nil), hash); err != nil {
			return "", fmt.Errorf("signing: %w", err)
		}
	default:
		return "", fmt.Errorf("signing: there is no method %s", method)
	}
	return base64.StdEncoding.EncodeToString(signature), nil
}
