package connector_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/connector"
)

// TestPublishedSignatures makes the signatures of the examples that vendors and RFCs publish. Nonces
// are inputs here; a real definition has nonce().
func TestPublishedSignatures(t *testing.T) {
	for name, c := range map[string]struct {
		apply  string
		inputs map[string]string
		now    string
		call   connector.Call
		want   string // is in the request
	}{
		"Akamai EdgeGrid": {apply: `
  vars:
    stamp: '{{now("YYYYMMDDTHH:mm:ss+0000")}}'
    start: 'EG1-HMAC-SHA256 client_token={{id}};access_token={{user}};timestamp={{stamp}};nonce={{number}};'
    digest: '{{request.method == "POST" and request.body != "" ? base64(sha256(request.body)) : ""}}'
    plain: '{{request.method + "\t" + request.scheme + "\t" + request.host + "\t" + request.path + "\t\t" + digest + "\t" + start}}'
    signing_key: '{{base64(hmac("sha256", key, stamp))}}'
  headers: {Authorization: '{{start}}signature={{base64(hmac("sha256", signing_key, plain))}}'}
`, inputs: map[string]string{"id": "akab-client-token-xxx-xxxxxxxxxxxxxxxx", "user": "akab-access-token-xxx-xxxxxxxxxxxxxxxx", "number": "nonce-xx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "key": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=", "host": "akaa-baseurl-xxxxxxxxxxx-xxxxxxxxxxxxx.luna.akamaiapis.net"},
			now: "2014-03-21T19:34:21Z", call: connector.Call{Call: "GET /"}, want: "signature=tL+y4hxyHxgWVD30X3pWnGKHcPzmrIF+LThiAOhMxYU="},
		"Duo": {apply: `
  vars:
    date: '{{now("ddd, DD MMM YYYY HH:mm:ss [-0000]")}}'
    canonical: '{{join(date, request.method, lower(request.host), request.path, join_pairs(sort(request.params), "=", "&", "url"), "\n")}}'
  headers: {Date: '{{date}}'}
  basic: {username: '{{id}}', password: '{{hex(hmac("sha1", key, canonical))}}'}
`, inputs: map[string]string{"id": "DIWJ8X6AEYOR5OMC6TQ1", "key": "Zh5eGmUq9zpfQnyUIu5OL9iWoMMv5ZNmk3zLJ4Ep", "host": "api-XXXXXXXX.duosecurity.com"},
			now:  "2012-08-21T17:29:18Z",
			call: connector.Call{Call: "POST /accounts/v1/account/list", Body: "realname=First%20Last&username=root", Type: "application/x-www-form-urlencoded"},
			want: "Basic RElXSjhYNkFFWU9SNU9NQzZUUTE6MmQ5N2Q2MTY2MzE5NzgxYjVhM2EwN2FmMzlkMzY2ZjQ5MTIzNGVkYw=="},
		"Kraken": {apply: `
  headers: {API-Key: '{{id}}', API-Sign: '{{base64(hmac("sha512", base64_decode(key), request.path + sha256(match(request.body, "nonce=(\\d+)") + request.body)))}}'}
`, inputs: map[string]string{"id": "x", "key": "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==", "host": "api.kraken.com"},
			call: connector.Call{Call: "POST /0/private/AddOrder", Body: "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25", Type: "application/x-www-form-urlencoded"},
			want: "Api-Sign: 4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="},
		"Binance": {apply: `
  query: {timestamp: '{{now("unix_ms")}}', signature: '{{hex(hmac("sha256", key, request.query + request.body))}}'}
`, inputs: map[string]string{"key": "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j", "host": "api.binance.com"}, now: "2017-07-12T02:41:59.559Z",
			call: connector.Call{Call: "POST /api/v3/order?symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"},
			want: "timestamp=1499827319559&signature=c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"},
		"Hawk": {apply: `
  vars:
    plain: '{{"hawk.1.header\n1353832234\n" + number + "\n" + request.method + "\n" + request.path + "?" + request.query + "\n" + split(request.host, ":")[0] + "\n" + split(request.host, ":")[1] + "\n\nsome-app-ext-data\n"}}'
  headers: {Authorization: 'Hawk mac="{{base64(hmac("sha256", key, plain))}}"'}
`, inputs: map[string]string{"number": "j4h3g2", "key": "werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn", "host": "example.com:8000"},
			call: connector.Call{Call: "GET /resource/1?b=1&a=2"}, want: `mac="6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE="`},
		"Alibaba": {apply: `
  query:
    AccessKeyId: '{{id}}'
    Format: XML
    SignatureMethod: HMAC-SHA1
    SignatureNonce: '{{number}}'
    SignatureVersion: '1.0'
    Timestamp: '{{now()}}'
    Signature: '{{base64(hmac("sha1", key + "&", request.method + "&%2F&" + url_encode(join_pairs(sort(request.params), "=", "&", "url"))))}}'
`, inputs: map[string]string{"id": "testid", "key": "testsecret", "number": "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf", "host": "ecs.aliyuncs.com"}, now: "2016-02-23T12:46:24Z",
			call: connector.Call{Call: "GET /?Version=2014-05-26&Action=DescribeRegions"}, want: "Signature=OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D"},
		"TOTP, RFC 6238": {apply: "\n  headers: {X-Code: '{{totp(key)}}'}\n", inputs: map[string]string{"key": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "host": "a.example.com"}, now: "1970-01-01T00:00:59Z",
			call: connector.Call{Call: "GET /"}, want: "X-Code: 287082"},
		"PBKDF2, RFC 6070": {apply: "\n  headers: {X-Key: '{{hex(pbkdf2(\"sha1\", \"password\", \"salt\", 4096, 20))}}'}\n", inputs: map[string]string{"host": "a.example.com"},
			call: connector.Call{Call: "GET /"}, want: "X-Key: 4b007901b765489abead49d926f721d065a429c1"},
		"sorted parameters and a secret": {apply: "\n  query: {key: '{{id}}', sign: '{{hex(md5(join_pairs(sort(without(request.params, \"ignored\")), \"=\", \"&\") + key))}}'}\n", inputs: map[string]string{"id": "i d", "key": "k", "host": "a.example.com"},
			call: connector.Call{Call: "GET /?z=1&b=%C3%BC&ignored=x"}, want: "sign=616292f7cfcd48811ffd752e1c227cbe"}, // md5("b=ü&key=i d&z=1k")
	} {
		t.Run(name, func(t *testing.T) {
			d := parse(t, "name: a\ntitle: x\ninputs: [{key: host, type: hostname}, {key: id}, {key: user}, {key: number}, {key: key, type: secret}]\napply:\n  base_url: https://{{host}}"+c.apply)
			for _, w := range d.Warnings {
				t.Error(w)
			}
			got, err := d.Run(t.Context(), connector.Case{Inputs: c.inputs, Now: c.now, API: []connector.Call{c.call}})
			if err != nil {
				t.Fatal(err)
			}
			if made := got.API[0].Request; !strings.Contains(made, c.want) {
				t.Errorf("%s\nhas no %s", made, c.want)
			}
		})
	}
}

// TestKeys has what is made of a private key: a fingerprint, a signature, and what only it can read.
func TestKeys(t *testing.T) {
	text := readTestdata(t, "rsa.pem")
	private := parseRSA(t, text)
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	d := parse(t, `name: a
title: x
inputs: [{key: key, type: secret}, {key: public_key}]
apply:
  base_url: https://a.example.com
  headers:
    X-Fingerprint: 'SHA256:{{base64(sha256(public_key(key)))}}'
    X-Signature: '{{base64(signature("RS256", key, request.path))}}'
    X-Pss: '{{base64(signature("PS512", key, request.path))}}'
    X-Encrypted: '{{base64(rsa_encrypt("oaep_sha256", public_key, "hello"))}}'
    X-Old: '{{base64(rsa_encrypt("pkcs1", public_key, "hello"))}}'
`)
	p, err := plan(t, d, map[string]string{"key": text, "public_key": base64.StdEncoding.EncodeToString(der)})
	if err != nil {
		t.Fatal(err)
	}
	req := request(t, "GET", "https://a.example.com/path")
	if err := p.Apply(req, nil); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	if diff := cmp.Diff("SHA256:"+base64.StdEncoding.EncodeToString(sum[:]), req.Header.Get("X-Fingerprint")); diff != "" {
		t.Error(diff)
	}
	decode := func(name string) []byte {
		b, err := base64.StdEncoding.DecodeString(req.Header.Get(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sum = sha256.Sum256([]byte("/path"))
	if err := rsa.VerifyPKCS1v15(&private.PublicKey, crypto.SHA256, sum[:], decode("X-Signature")); err != nil {
		t.Error(err)
	}
	h := crypto.SHA512.New()
	h.Write([]byte("/path"))
	if err := rsa.VerifyPSS(&private.PublicKey, crypto.SHA512, h.Sum(nil), decode("X-Pss"), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}); err != nil {
		t.Error(err)
	}
	if plain, err := rsa.DecryptOAEP(sha256.New(), nil, private, decode("X-Encrypted"), nil); err != nil || string(plain) != "hello" {
		t.Error(err)
	}
	//lint:ignore SA1019 as a vendor does it
	if plain, err := rsa.DecryptPKCS1v15(nil, private, decode("X-Old")); err != nil || string(plain) != "hello" {
		t.Error(err)
	}
}
