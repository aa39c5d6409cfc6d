package proxy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/grantway/grantway"
)

// TestValues is P-8, P-9 and P-11 through the front: two instances have any values, and callers
// give any more. Each call is refused, or what it causes is, but for the values in their places,
// always the same two requests: one that signs in, with the secret, and one to the API, with the
// token of that instance and without the secret.
func TestValues(t *testing.T) {
	g := start(t, false, nil)
	secretOf := func(name string) string { return "s3cr3t-canary-of-" + name }
	names := []string{"berlin", "paris"}
	_, err := g.CreateConnector(t.Context(), []byte(`
name: shop
title: Shop
inputs:
  - {key: server, type: url, required: true}
  - {key: who, required: true}
  - {key: key, type: secret, required: true}
  - {key: Store-URL}
request:
  url: '{{server}}/login/{{who}}?v={{Store-URL}}'
  headers: {X-Value: 'v {{Store-URL}}'}
  body: {json: {key: '{{key}}', store: '{{Store-URL}}'}}
token: {path: token}
apply: {base_url: '{{server}}/api'}
endpoints:
  - name: orders
    method: POST
    path: /{{id}}/orders
    query: {v: '{{Store-URL}}'}
    body: {json: {id: '{{id}}', store: '{{Store-URL}}'}}
    inputs: [{key: id, required: true}]
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		_, err := g.CreateCredential(t.Context(), grantway.Credential{Name: name, Connector: "shop", Inputs: grantway.Inputs{
			"server": grantway.Text(g.api.URL), "who": grantway.Text(name), "key": grantway.Text(secretOf(name))}})
		if err != nil {
			t.Fatal(err)
		}
	}
	type request struct {
		Method, Path string
		Query        url.Values
		Headers      []string
		Value, Auth  string
		Body         map[string]any
	}
	got := make(chan request, 16)
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		sent := request{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Value: r.Header.Get("X-Value"), Auth: r.Header.Get("Authorization")}
		for name := range r.Header {
			sent.Headers = append(sent.Headers, name)
		}
		slices.Sort(sent.Headers)
		if err := json.NewDecoder(r.Body).Decode(&sent.Body); err != nil {
			t.Error("no JSON:", err)
		}
		got <- sent
		if name, ok := strings.CutPrefix(r.URL.Path, "/login/"); ok {
			fmt.Fprintf(w, `{"token": %q}`, "of "+name)
			return
		}
		fmt.Fprint(w, "done")
	})
	called, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		value := func(name string) string {
			return rapid.OneOf(rapid.StringN(1, 30, 100), rapid.SampledFrom([]string{"{{key}}", "{{ token }}", "a&b=c", "a+b ü", "..", "../login/paris", "/etc", "%2e%2e", "%2F", "?x=y", "#f",
				"\r\nX-Evil: 1", `"`, `\"`, `","key":"mine`, "'", ";", "@evil.com", "\x00", "\u2028"})).Draw(rt, name)
		}
		name, store, id := rapid.SampledFrom(names).Draw(rt, "instance"), value("store"), value("id")
		c, err := g.Credential(t.Context(), name)
		if err != nil {
			rt.Fatal(err)
		}
		c.Inputs["Store-URL"] = grantway.Text(store)
		if _, err := g.UpdateCredential(t.Context(), name, c); err != nil {
			if e, ok := errors.AsType[*grantway.Error](err); !ok || e.Code != grantway.Invalid {
				rt.Fatal(err)
			}
			refused++
			return
		}
		body, err := json.Marshal(grantway.EndpointCall{Inputs: map[string]string{"id": id}})
		if err != nil {
			rt.Fatal(err)
		}
		r := g.request(t, "POST", "/v1/credentials/"+name+"/endpoints/orders", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		resp, err := g.http.Do(r)
		if err != nil {
			rt.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || strings.Contains(string(answer), "s3cr3t-canary") {
			rt.Fatal(err, string(answer))
		}
		var sent []request
		for len(got) > 0 {
			sent = append(sent, <-got)
		}
		want := []request{
			{"POST", "/login/" + name, url.Values{"v": {store}}, []string{"Accept", "Accept-Encoding", "Content-Length", "Content-Type", "User-Agent", "X-Value"}, "v " + store, "",
				map[string]any{"key": secretOf(name), "store": store}},
			{"POST", "/api/" + id + "/orders", url.Values{"v": {store}}, []string{"Accept", "Authorization", "Content-Length", "Content-Type", "User-Agent"}, "", "Bearer of " + name,
				map[string]any{"id": id, "store": store}},
		}
		if resp.StatusCode == 200 {
			if diff := cmp.Diff(want, sent); diff != "" {
				rt.Fatalf("the server got (-want +got)\n%s", diff)
			}
			called++
			return
		}
		refused++
		if resp.StatusCode/100 != 4 && resp.StatusCode != 502 {
			rt.Fatalf("HTTP %d %s", resp.StatusCode, answer)
		}
		for i, s := range sent { // it may have signed in before a value turned out not to fit
			if diff := cmp.Diff(want[min(i, 1)], s); i > 0 || diff != "" {
				rt.Fatalf("a call that was refused sent (-want +got)\n%s", diff)
			}
		}
	})
	if called == 0 || refused == 0 {
		t.Errorf("%d calls, %d were refused", called, refused)
	}
}
