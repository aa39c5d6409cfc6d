package connector

import (
	"bytes"
	"encoding/json"
	"reflect"
	"time"
)

// Source is a definition as it is written: the YAML document, field by field. ParseSource
// reads one, Compile turns it into a Definition. The doc tags are the descriptions in
// schema/connector.json and in docs/connectors.md.
//
// How a token is got is said in one of three ways: OAuth2 is a token request of RFC 6749,
// Request any other single request, Steps up to three requests of either kind. With none of
// them no token is needed: Apply then authorizes requests with the inputs alone.
type Source struct {
	Name        string `json:"name" doc:"What the definition is called: lower-case letters, digits and dashes."`
	Title       string `json:"title,omitempty" doc:"The name that people see."`
	Description string `json:"description,omitempty" doc:"One or two sentences."`
	Extends     string `json:"extends,omitempty" doc:"Name of a definition from which everything is taken that is not said here: inputs by key, oauth2 field by field, all else section by section."`
	Abstract    bool   `json:"abstract,omitempty" doc:"The definition is only there to be extended."`

	Vendor        string   `json:"vendor,omitempty" doc:"Who makes the application."`
	Categories    []string `json:"categories,omitempty" doc:"Where a gallery shows it, such as crm or mail."`
	Regions       []string `json:"regions,omitempty" doc:"Regions or clouds it is offered in."`
	Documentation string   `json:"documentation,omitempty" doc:"Link to the vendor's page on authentication."`
	Checked       string   `json:"checked,omitempty" doc:"The day on which it was compared with that page, such as 2026-11-27."`
	Unverified    bool     `json:"unverified,omitempty" doc:"Nobody could compare it with documentation."`

	Inputs   []Input           `json:"inputs,omitempty" doc:"What a credential has to fill in, in the order a form shows it."`
	Defaults map[string]string `json:"defaults,omitempty" doc:"Defaults of inherited inputs, by key. A default may be a template of other inputs that are not secret."`
	Drop     []string          `json:"drop,omitempty" doc:"Keys of inherited inputs that are not wanted."`
	Vars     Pairs             `json:"vars,omitempty" doc:"Computed variables, in order; each may use those before it. Computed once for every token or request."`

	Certificate *Certificate `json:"certificate,omitempty" doc:"Client certificate for every connection (mutual TLS)."`
	Signers     []Signer     `json:"signers,omitempty" doc:"Signed assertions; each is a variable, made anew for every token request."`

	OAuth2   *OAuth2    `json:"oauth2,omitempty" doc:"The token request, if it is one of RFC 6749."`
	Request  *Request   `json:"request,omitempty" doc:"The token request, if it is a single one of another kind."`
	Steps    []Step     `json:"steps,omitempty" doc:"One to three requests, of which the last one answers with the token."`
	Token    *TokenRule `json:"token,omitempty" doc:"Where the token and its lifetime stand in the answer. Without it: access_token, expires_in and so on, as in RFC 6749."`
	Errors   *ErrorRule `json:"errors,omitempty" doc:"How an error of the vendor looks, in token answers and in those of the API."`
	Discover *Discover  `json:"discover,omitempty" doc:"A request that is made with every new token, and what is kept of its answer."`

	Apply     *Apply     `json:"apply,omitempty" doc:"How requests to the API are authorized. Without it: Authorization: Bearer and the token."`
	Detect    *Detect    `json:"detect,omitempty" doc:"By which signs of an answer the API refused the token. Without it: status 401."`
	Verify    *Endpoint  `json:"verify,omitempty" doc:"A harmless request to the API, made by Validate."`
	Endpoints []Endpoint `json:"endpoints,omitempty" doc:"Requests to the API that are worth a name."`
	Hints     *Hints     `json:"hints,omitempty" doc:"What is good to know about the vendor."`
}

// OAuth2 is a token request of RFC 6749. Every field is a template; what comes out empty is
// not sent. It becomes a grant.Request.
type OAuth2 struct {
	TokenURL       string `json:"token_url,omitempty" doc:"The token endpoint."`
	GrantType      string `json:"grant_type,omitempty" doc:"Empty is client_credentials."`
	ClientID       string `json:"client_id,omitempty" doc:"The client identifier."`
	ClientSecret   string `json:"client_secret,omitempty" doc:"The client secret."`
	Auth           string `json:"auth,omitempty" doc:"How the client authenticates: client_secret_basic (also when empty), client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth, self_signed_tls_client_auth or none."`
	BasicEncoding  string `json:"basic_encoding,omitempty" doc:"rfc6749 or raw; raw leaves out the form encoding of both halves of the Basic header."`
	ClientIDInBody string `json:"client_id_in_body,omitempty" doc:"true sends client_id in the body beside Basic."`

	Scope    string `json:"scope,omitempty" doc:"Separated by spaces."`
	Audience string `json:"audience,omitempty" doc:"The audience parameter."`
	Resource string `json:"resource,omitempty" doc:"The resource parameter (RFC 8707)."`

	Form       Pairs  `json:"form,omitempty" doc:"More parameters of the body."`
	Query      Pairs  `json:"query,omitempty" doc:"Parameters of the URL."`
	Headers    Pairs  `json:"headers,omitempty" doc:"More headers."`
	Parameters string `json:"parameters,omitempty" doc:"Key of an input of type parameters, whose items are added."`

	SigningKey         string `json:"signing_key,omitempty" doc:"Private key, PEM or JWK, that signs assertions."`
	SigningAlgorithm   string `json:"signing_algorithm,omitempty" doc:"Empty takes the usual one for the kind of key."`
	SigningKeyID       string `json:"signing_key_id,omitempty" doc:"The kid header."`
	SigningCertificate string `json:"signing_certificate,omitempty" doc:"Certificate of the key, PEM; adds the x5t#S256 header."`
	Assertion          string `json:"assertion,omitempty" doc:"A ready-made assertion, or the variable of a signer."`
	AssertionIssuer    string `json:"assertion_issuer,omitempty" doc:"iss of the JWT bearer grant. Empty is the client identifier."`
	AssertionSubject   string `json:"assertion_subject,omitempty" doc:"sub of the JWT bearer grant. Empty is the issuer."`
	AssertionAudience  string `json:"assertion_audience,omitempty" doc:"aud of assertions."`
	AssertionType      string `json:"assertion_type,omitempty" doc:"typ of client assertions. Empty is client-authentication+jwt; many servers want JWT."`

	DPoP    string `json:"dpop,omitempty" doc:"true asks for a token that is bound to dpop_key (RFC 9449)."`
	DPoPKey string `json:"dpop_key,omitempty" doc:"Private key, PEM or JWK."`

	TokenTypeOptional string `json:"token_type_optional,omitempty" doc:"true accepts an answer without token_type."`
	DefaultLifetime   string `json:"default_lifetime,omitempty" doc:"Seconds a token is used when the answer does not say. Empty is 300."`
}

// texts are the fields of o that are templates on their own, by their names.
func (o *OAuth2) texts() map[string]string {
	m := map[string]string{}
	v := reflect.ValueOf(*o)
	for name, i := range fieldsOf(v.Type()).index {
		if f := v.Field(i); f.Kind() == reflect.String && name != "parameters" && f.String() != "" {
			m[name] = f.String()
		}
	}
	return m
}

// Certificate is a client certificate with its key. Both are templates; no certificate, no mutual TLS.
type Certificate struct {
	Certificate string `json:"certificate" doc:"The certificate with its chain, PEM."`
	Key         string `json:"key" doc:"Its private key, PEM."`
}

// Request is a request as a template. Values are escaped for the place they stand in, and
// never looked at again: no value can change what a request is made of.
type Request struct {
	Method    string  `json:"method,omitempty" doc:"GET, POST and so on. Empty is POST for token requests with a body, else GET."`
	URL       string  `json:"url" doc:"Absolute for token requests; the path below the base URL for endpoints."`
	Query     Pairs   `json:"query,omitempty" doc:"Parameters of the URL; a name may come more than once."`
	Headers   Pairs   `json:"headers,omitempty" doc:"Headers."`
	Basic     *Basic  `json:"basic,omitempty" doc:"HTTP Basic authentication."`
	Cookies   Pairs   `json:"cookies,omitempty" doc:"Cookies."`
	Body      *Body   `json:"body,omitempty" doc:"The body."`
	KeepEmpty bool    `json:"keep_empty,omitempty" doc:"Sends parameters, headers and JSON members whose template comes out empty. Normally they are left out."`
	Sign      *Sign   `json:"sign,omitempty" doc:"Signs the request."`
	Vars      Pairs   `json:"vars,omitempty" doc:"Computed variables of this request, in order."`
	Accept    []int   `json:"accept,omitempty" doc:"Statuses of a good answer. Empty is every 2xx."`
	Response  Format  `json:"response,omitempty" doc:"What the body of the answer is: json, xml, form or text. Empty goes by its content type, else JSON."`
	Extract   Extract `json:"extract,omitempty" doc:"Variables that are taken from the answer."`
}

// Format is what a body is.
type Format string

// The formats of answers.
const (
	JSONFormat Format = "json"
	XMLFormat  Format = "xml"
	FormFormat Format = "form"
	TextFormat Format = "text"
)

// Basic is HTTP Basic authentication (RFC 7617).
type Basic struct {
	Username string `json:"username,omitempty" doc:"Before the colon; must come out without one."`
	Password string `json:"password,omitempty" doc:"After the colon."`
	Encoding string `json:"encoding,omitempty" doc:"rfc6749 form-encodes both halves first. Empty is raw."`
}

// Body is a body of one of these kinds.
type Body struct {
	Form      Pairs    `json:"form,omitempty" doc:"application/x-www-form-urlencoded."`
	JSON      *Tree    `json:"json,omitempty" doc:"A JSON value whose strings are templates. A string that is one {{expression}} becomes what the expression is, also a number or a list."`
	XML       string   `json:"xml,omitempty" doc:"An XML document with templates in text and attributes."`
	GraphQL   *GraphQL `json:"graphql,omitempty" doc:"A GraphQL request, as JSON."`
	Multipart Pairs    `json:"multipart,omitempty" doc:"multipart/form-data."`
	Pairs     Pairs    `json:"pairs,omitempty" doc:"Names and values, encoded as the header Content-Type says: form, JSON object or multipart."`
	Raw       string   `json:"raw,omitempty" doc:"Text as it is. With the content type of JSON, XML or a form, values are escaped for it."`
}

// GraphQL is a query with variables.
type GraphQL struct {
	Query     string `json:"query" doc:"The document. Templates may stand inside of quotes; variables are the better place."`
	Variables *Tree  `json:"variables,omitempty" doc:"JSON object whose strings are templates."`
	Operation string `json:"operation,omitempty" doc:"operationName."`
}

// Step is one of several requests on the way to a token.
type Step struct {
	Name    string   `json:"name" doc:"For messages, such as login."`
	OAuth2  *OAuth2  `json:"oauth2,omitempty" doc:"A token request of RFC 6749."`
	Request *Request `json:"request,omitempty" doc:"Any other request."`
	Extract Extract  `json:"extract,omitempty" doc:"Variables that are taken from the answer of an oauth2 step."`
}

// Extract names what is taken from an answer.
type Extract map[string]Locator

// Locator says where in an answer a value stands. As a plain string it is a path.
type Locator struct {
	Path     string `json:"path,omitempty" doc:"Names and array indexes with dots between: data.0.token. In XML the local names of elements, with @ before an attribute. items.[name=main].url is that of the first item whose name is main. $ is the whole body. May be a template."`
	Header   string `json:"header,omitempty" doc:"Name of a header."`
	Cookie   string `json:"cookie,omitempty" doc:"Name of a cookie that is set. * is all of them, as in the header Cookie."`
	Value    string `json:"value,omitempty" doc:"A template of variables, such as what an earlier step extracted."`
	Match    string `json:"match,omitempty" doc:"Regular expression; its first group, else all it matches, is the value."`
	Optional bool   `json:"optional,omitempty" doc:"It may be missing, and is empty then."`
}

// TokenRule says where token and lifetime stand in the last answer.
type TokenRule struct {
	Path   string `json:"path,omitempty" doc:"Where the token stands; see locator. Empty is access_token. May be a template."`
	Header string `json:"header,omitempty" doc:"The token is in this header."`
	Cookie string `json:"cookie,omitempty" doc:"The token is this cookie. * is all that are set, as in the header Cookie."`
	Match  string `json:"match,omitempty" doc:"Regular expression that finds the token in what the above found."`
	Value  string `json:"value,omitempty" doc:"The token is made of variables, such as {{session}}."`

	Type        string    `json:"type,omitempty" doc:"The token type. Empty is that of the answer (token_type), else Bearer."`
	Expires     *Expiry   `json:"expires,omitempty" doc:"Where the lifetime stands. Without it: expires_in and its relatives, then exp of a JWT, then default_lifetime."`
	Lifetime    *Duration `json:"lifetime,omitempty" doc:"The lifetime, whatever the answer says."`
	Default     *Duration `json:"default_lifetime,omitempty" doc:"The lifetime when nothing else says. Empty is five minutes."`
	RenewBefore *Duration `json:"renew_before,omitempty" doc:"How long before its end a token must no longer be used."`
	Keep        Extract   `json:"keep,omitempty" doc:"More of the answer that is stored with the token, such as instance_url; each is a variable of apply and endpoints."`
	Refresh     *Request  `json:"refresh,omitempty" doc:"Gets the next token from the one before, whose kept fields are variables. When it fails, everything starts anew."`
}

// Expiry says where and how an answer tells how long its token is valid. As a plain string it is a path.
type Expiry struct {
	Path   string `json:"path,omitempty" doc:"See locator."`
	Header string `json:"header,omitempty" doc:"Name of a header."`
	Value  string `json:"value,omitempty" doc:"A template of variables, such as what an earlier step extracted."`
	Match  string `json:"match,omitempty" doc:"Regular expression that finds the lifetime in what the above found."`
	As     string `json:"as,omitempty" doc:"in: a number from now on; at: a moment; duration: a text such as 1:02:30 or PT1H. Empty goes by format, else in."`
	Unit   string `json:"unit,omitempty" doc:"Of numbers: ms, s, min, h or d. Empty is s."`
	Format string `json:"format,omitempty" doc:"Of a moment: unix, unix_ms, rfc3339, http, dotnet or a pattern such as YYYY-MM-DD HH:mm:ss. Of a duration: iso8601 or a pattern such as D:HH:MM."`
	Zone   string `json:"zone,omitempty" doc:"Time zone of a pattern without one, such as Europe/Paris. Empty is UTC."`
}

// ErrorRule is how the vendor's errors look.
type ErrorRule struct {
	When    []Symptom `json:"when,omitempty" doc:"An answer with a good status is an error too when one of these holds."`
	Code    string    `json:"code,omitempty" doc:"Path of the error's code. Empty is error, as in RFC 6749."`
	Message string    `json:"message,omitempty" doc:"Path of its text."`

	// Which codes mean that the client's secret is wrong, so that the next one is tried.
	InvalidClient []string `json:"invalid_client,omitempty" doc:"Codes that mean: identifier or secret are wrong."`
	Temporary     []string `json:"temporary,omitempty" doc:"Codes that mean: try again later."`
}

// Symptom is something to look for in an answer. All that is said must hold.
type Symptom struct {
	Path     string `json:"path,omitempty" doc:"See locator; $ is the whole body. Without equals, contains and matches it is enough that it is there and neither empty, false nor 0."`
	Header   string `json:"header,omitempty" doc:"Name of a header to look into."`
	Status   int    `json:"status,omitempty" doc:"The status of the answer."`
	Equals   string `json:"equals,omitempty" doc:"The value, as text."`
	Contains string `json:"contains,omitempty" doc:"A part of the value."`
	Matches  string `json:"matches,omitempty" doc:"A regular expression."`
	Missing  bool   `json:"missing,omitempty" doc:"The value is not there."`
}

// Discover is a request with a new token, and what is kept of its answer.
type Discover struct {
	Request Request `json:"request" doc:"Sent with the token applied."`
	Extract Extract `json:"extract" doc:"What is kept; each is a variable of apply and endpoints."`
}

// Apply is how requests to the API are authorized. Variables are the inputs, token,
// token_type, what was kept, and request: the request as far as it is made. What is written here is
// put on in this order: body, query, headers, basic, cookies, sign.
type Apply struct {
	BaseURL   string   `json:"base_url,omitempty" doc:"What paths are below. May come from the token's answer: {{instance_url}}."`
	Headers   Pairs    `json:"headers,omitempty" doc:"Headers. When nothing is said in apply but base_url, hosts, redirects and vars, it is Authorization: {{token_type}} {{token}}."`
	Query     Pairs    `json:"query,omitempty" doc:"Parameters of the URL."`
	Cookies   Pairs    `json:"cookies,omitempty" doc:"Cookies."`
	Basic     *Basic   `json:"basic,omitempty" doc:"HTTP Basic authentication."`
	Body      Pairs    `json:"body,omitempty" doc:"Fields that are added to a form or JSON body; in JSON, dots lead inside: params.session."`
	Sign      *Sign    `json:"sign,omitempty" doc:"Signs every request."`
	Vars      Pairs    `json:"vars,omitempty" doc:"Computed variables of each request, in order, such as a timestamp and a signature."`
	Hosts     []string `json:"hosts,omitempty" doc:"Hosts besides that of base_url that requests may go to; *.example.com is every host below."`
	Redirects string   `json:"redirects,omitempty" doc:"same_origin (also when empty), hosts or none."`
}

// Sign names a way to sign a request. One of its fields is set.
type Sign struct {
	WSSE   *WSSE   `json:"wsse,omitempty" doc:"UsernameToken in the header X-WSSE."`
	SigV4  *SigV4  `json:"sigv4,omitempty" doc:"AWS Signature Version 4."`
	OAuth1 *OAuth1 `json:"oauth1,omitempty" doc:"OAuth 1.0a (RFC 5849), without or with a token."`
}

// WSSE signs with a UsernameToken digest.
type WSSE struct {
	Username string `json:"username" doc:"The user."`
	Password string `json:"password" doc:"The secret."`
	Digest   string `json:"digest,omitempty" doc:"hex writes the SHA-1 in hex before base64, and the nonce as it is, as some vendors do. Empty is binary, with the nonce in base64."`
}

// SigV4 signs as AWS does.
type SigV4 struct {
	AccessKey    string `json:"access_key" doc:"Access key id."`
	SecretKey    string `json:"secret_key" doc:"Secret access key."`
	SessionToken string `json:"session_token,omitempty" doc:"Of temporary credentials."`
	Region       string `json:"region" doc:"Such as eu-central-1."`
	Service      string `json:"service" doc:"Such as execute-api."`
}

// OAuth1 signs as RFC 5849 says.
type OAuth1 struct {
	ConsumerKey    string `json:"consumer_key" doc:"oauth_consumer_key."`
	ConsumerSecret string `json:"consumer_secret,omitempty" doc:"Its secret."`
	Token          string `json:"token,omitempty" doc:"oauth_token."`
	TokenSecret    string `json:"token_secret,omitempty" doc:"Its secret."`
	Key            string `json:"key,omitempty" doc:"Private key, PEM, of RSA-SHA1 and RSA-SHA256."`
	Method         string `json:"method,omitempty" doc:"HMAC-SHA1, HMAC-SHA256 (also when empty), RSA-SHA1, RSA-SHA256 or PLAINTEXT."`
	Realm          string `json:"realm,omitempty" doc:"Realm of the header, such as an account number."`
	BodyHash       bool   `json:"body_hash,omitempty" doc:"Adds oauth_body_hash for bodies that are not forms."`
}

// Signer makes an assertion, which is the variable Name.
type Signer struct {
	Name string `json:"name" doc:"The variable."`
	JWT  *JWT   `json:"jwt,omitempty" doc:"A JSON Web Token."`
	SAML *SAML  `json:"saml,omitempty" doc:"A SAML 2.0 assertion, base64url (RFC 7522)."`
}

// JWT is a signed JSON Web Token (RFC 7519).
type JWT struct {
	Algorithm   string    `json:"algorithm,omitempty" doc:"RS256, ES256, HS256 and so on. Empty takes the usual one for the kind of key. May be a template."`
	Key         string    `json:"key" doc:"Private key, PEM or JWK; for HS algorithms the secret."`
	KeyEncoding string    `json:"key_encoding,omitempty" doc:"Of the secret of HS algorithms: base64, base64url or hex. Empty is text."`
	KeyID       string    `json:"key_id,omitempty" doc:"The kid header."`
	Certificate string    `json:"certificate,omitempty" doc:"Certificate of the key, PEM; adds x5t#S256."`
	Type        string    `json:"type,omitempty" doc:"The typ header. Empty is JWT."`
	Header      *Tree     `json:"header,omitempty" doc:"More headers; strings are templates."`
	Claims      *Tree     `json:"claims,omitempty" doc:"Claims; strings are templates. iat, exp and jti are made unless given; null leaves one out."`
	Lifetime    *Duration `json:"lifetime,omitempty" doc:"From iat to exp. Empty is one minute."`
}

// SAML is a signed SAML 2.0 bearer assertion.
type SAML struct {
	Key          string    `json:"key" doc:"Private RSA key, PEM."`
	Certificate  string    `json:"certificate,omitempty" doc:"Its certificate, PEM, which is put into the signature."`
	Issuer       string    `json:"issuer" doc:"Issuer."`
	Subject      string    `json:"subject" doc:"NameID."`
	NameIDFormat string    `json:"name_id_format,omitempty" doc:"Empty is urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified."`
	Audience     string    `json:"audience" doc:"Audience."`
	Recipient    string    `json:"recipient" doc:"The token endpoint."`
	Attributes   Pairs     `json:"attributes,omitempty" doc:"Attributes of the assertion."`
	Lifetime     *Duration `json:"lifetime,omitempty" doc:"Empty is ten minutes."`
}

// Detect is by which signs the API says that the token is no longer good.
type Detect struct {
	Statuses []int     `json:"statuses,omitempty" doc:"Statuses that say so. Empty is 401, unless there is a when."`
	When     []Symptom `json:"when,omitempty" doc:"Signs that say so, one of which must hold."`
}

// Endpoint is a request to the API.
type Endpoint struct {
	Name   string  `json:"name,omitempty" doc:"Lower-case letters, digits, dashes and underscores."`
	Title  string  `json:"title,omitempty" doc:"What people see."`
	Help   string  `json:"help,omitempty" doc:"What it is for."`
	Inputs []Input `json:"inputs,omitempty" doc:"Its own variables, filled in for each call."`

	Method    string `json:"method,omitempty" doc:"Empty is GET."`
	Path      string `json:"path" doc:"Below the base URL, or an absolute URL at an allowed host."`
	Query     Pairs  `json:"query,omitempty" doc:"Parameters of the URL."`
	Headers   Pairs  `json:"headers,omitempty" doc:"Headers."`
	Body      *Body  `json:"body,omitempty" doc:"The body."`
	KeepEmpty bool   `json:"keep_empty,omitempty" doc:"See request."`
	Accept    []int  `json:"accept,omitempty" doc:"Statuses of a good answer. Empty is every 2xx."`
}

// Hints are for people, and for the limits of an instance.
type Hints struct {
	RateLimit      *RateLimit `json:"rate_limit,omitempty" doc:"How many requests the API takes."`
	TokenRateLimit *RateLimit `json:"token_rate_limit,omitempty" doc:"How many token requests the vendor takes."`
	ScopeSeparator string     `json:"scope_separator,omitempty" doc:"Between scopes, where it is not a space."`
	Scopes         []string   `json:"scopes,omitempty" doc:"Scopes that are known."`
	OneToken       bool       `json:"one_token,omitempty" doc:"A new token ends the one before."`
	Note           string     `json:"note,omitempty" doc:"What has to be done at the vendor first."`
}

// RateLimit is a number of requests in some time.
type RateLimit struct {
	Requests  int      `json:"requests,omitempty" doc:"How many."`
	Per       Duration `json:"per,omitempty" doc:"In which time."`
	Remaining string   `json:"remaining,omitempty" doc:"Header that tells how many are left."`
	Reset     string   `json:"reset,omitempty" doc:"Header that tells when it starts anew."`
}

// Pair is a name and a template.
type Pair struct {
	Name      string `json:"name" doc:"As it is; not a template."`
	Value     string `json:"value" doc:"A template."`
	KeepEmpty bool   `json:"keep_empty,omitempty" doc:"It is sent although the template comes out empty."`
}

// Pairs are written as a mapping, in which a list repeats the name, or as a list of pairs.
type Pairs []Pair

// Duration is written as 90s, 5m, 1h30m or 7d, or as a number of seconds.
type Duration time.Duration

// Duration is d in the terms of package time; 0 for nil.
func (d *Duration) Duration() time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

// MarshalJSON writes d as ParseSource reads it.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// Tree is a JSON value in the order it is written, whose strings are templates.
type Tree struct {
	value any // object, []any, string, json.Number, bool or nil
}

type (
	object []member
	member struct {
		name  string
		value any
	}
)

// MarshalJSON implements json.Marshaler.
func (t Tree) MarshalJSON() ([]byte, error) { return marshal(t.value) }

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
