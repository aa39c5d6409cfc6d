package secret

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

func awsKind() Kind {
	return Kind{
		open:  openAWS,
		spell: awsKey,
		Definition: kind("aws", "AWS Secrets Manager", "Secrets of one account and region.",
			connector.Input{Key: "region", Title: "Region", Type: connector.String, Help: "Such as eu-central-1. Empty is what the default chain says."},
			connector.Input{Key: "access_key_id", Title: "Access key id", Type: connector.String, RequiredWhen: nil,
				Help: "Empty is the default credential chain: environment, shared files, web identity, container, machine."},
			connector.Input{Key: "secret_access_key", Title: "Secret access key", Type: connector.SecretText},
			connector.Input{Key: "path", Title: "Prefix", Type: connector.String, Help: "What the names of secrets begin with, such as grantway/."},
			connector.Input{Key: "endpoint", Title: "Endpoint", Type: connector.URL, Advanced: true, Max: 2048, Help: "Of a VPC endpoint. Empty is the region's."}),
	}
}

// awsKey replaces what AWS does not allow in the name of a secret. An ARN stays as it is.
func awsKey(key string) string {
	if strings.HasPrefix(key, "arn:") {
		return key
	}
	return mapped(key, func(r rune) bool { return alphanumeric(r) || strings.ContainsRune("/_+=.@-", r) })
}

// awsStore is AWS Secrets Manager. The vendor's library signs the requests and knows the
// many places that credentials come from.
type awsStore struct {
	setting
	client atomic.Pointer[awsClient]
}

type awsClient struct {
	*secretsmanager.Client
	credentials aws.CredentialsProvider
	secret      string // that it was made with, when that is the hub's to keep
}

func openAWS(s setting) Store { return &awsStore{setting: s} }

// Describe implements Store.
func (a *awsStore) Describe() grantway.SecretStore {
	return grantway.SecretStore{Name: a.name, Kind: "aws",
		Detail: "Secrets Manager in " + cmp.Or(a.text("region"), "the region of the default chain") + ", " + cmp.Or(a.text("path")+"*", "*")}
}

// connect makes the client when it is first needed, since the default chain looks at files.
func (a *awsStore) connect(ctx context.Context) (*awsClient, error) {
	secret, err := a.secret(ctx, "secret_access_key")
	if err != nil {
		return nil, err
	}
	if c := a.client.Load(); c != nil && c.secret == secret {
		return c, nil
	}
	cfg, err := a.awsConfig(ctx, a.text("region"), secret)
	if err != nil {
		return nil, err
	}
	c := &awsClient{credentials: cfg.Credentials, secret: secret}
	c.Client = secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
		if endpoint := a.text("endpoint"); endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	a.client.Store(c)
	return c, nil
}

// awsConfig is what every client of AWS is made from. An empty region is that of the default
// chain, as the credentials are without an access key id.
func (s setting) awsConfig(ctx context.Context, region, secret string) (aws.Config, error) {
	client := awshttp.NewBuildableClient().WithTimeout(readTimeout).WithTransportOptions(func(t *http.Transport) {
		t.Proxy, t.DialContext, t.TLSClientConfig = s.machine.Proxy, s.machine.DialContext, s.machine.TLSClientConfig.Clone()
	})
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client), // of the SDK's own type, or AWS_CA_BUNDLE is an error
		config.WithRetryMaxAttempts(2),
		config.WithLogger(logging.Nop{}),
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	if id := s.text("access_key_id"); id != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(id, secret, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, fault(s.name, refused, err, "the default credential chain of AWS cannot be read")
	}
	if cfg.Region == "" {
		return cfg, fault(s.name, refused, nil, "it has no region, and the default chain of AWS names none")
	}
	return cfg, nil
}

// awsCredentials says whether there are any, which to each request would be a failed connection.
func (s setting) awsCredentials(ctx context.Context, from aws.CredentialsProvider) error {
	if _, err := from.Retrieve(ctx); err != nil {
		return fault(s.name, refused, err, "no credentials were found in the default chain of AWS")
	}
	return nil
}

// SignIn implements Store. AWS has no sign-in of its own: credentials must be had, and the
// store must take a request that they signed.
func (a *awsStore) SignIn(ctx context.Context) error {
	_, err := a.Read(ctx, probe, "")
	if reasonOf(err).away() && err != nil {
		return err
	}
	return nil
}

// awsVersion tells the id of a version from a stage such as AWSPREVIOUS.
var awsVersion = regexp.MustCompile(`^[0-9A-Za-z-]{32,64}$`)

// Read implements Store.
func (a *awsStore) Read(ctx context.Context, key, version string) ([]byte, error) {
	c, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.awsCredentials(ctx, c.credentials); err != nil {
		return nil, err
	}
	there := awsKey(a.text("path") + key)
	if strings.HasPrefix(key, "arn:") {
		there = key
	}
	in := &secretsmanager.GetSecretValueInput{SecretId: &there}
	switch {
	case awsVersion.MatchString(version):
		in.VersionId = &version
	case version != "":
		in.VersionStage = &version
	}
	out, err := c.GetSecretValue(ctx, in)
	if err != nil {
		return nil, a.fault(err, key, there, version)
	}
	if out.SecretString != nil {
		return []byte(*out.SecretString), nil
	}
	return out.SecretBinary, nil
}

// fault says what an error of AWS means. Its text may repeat names and ids, and stays in the log.
func (a *awsStore) fault(err error, key, there, version string) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return unreached(a.name, "AWS Secrets Manager", innermost(err))
	}
	if awsThrottles(err) {
		return fault(a.name, throttled, err, "it gets too many requests (%s)", api.ErrorCode())
	}
	if awsRefuses(api) {
		return fault(a.name, refused, err, "it does not accept the hub's credentials (%s)", api.ErrorCode())
	}
	switch code := api.ErrorCode(); code {
	case "ResourceNotFoundException":
		if version != "" {
			return fault(a.name, missing, err, "there is no key %s with version %s", named(key, there), version)
		}
		return notFound(a.name, key, there)
	case "InvalidRequestException":
		return fault(a.name, deleted, err, "key %s was marked for deletion", named(key, there))
	case "AccessDeniedException":
		return fault(a.name, denied, err, "permission denied: the hub's identity may not read %s (secretsmanager:GetSecretValue)", named(key, there))
	case "DecryptionFailure":
		return fault(a.name, denied, err, "permission denied: the hub's identity may not use the KMS key of %s", named(key, there))
	case "InvalidParameterException", "ValidationException":
		return fault(a.name, missing, err, "%s is not a name that it accepts", named(key, there))
	default:
		return fault(a.name, unreachable, err, "it answered %s", code)
	}
}

// awsThrottles says whether AWS has had too many requests.
func awsThrottles(err error) bool {
	return retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary
}

// awsRefuses says whether AWS does not know who asks.
func awsRefuses(err smithy.APIError) bool {
	switch err.ErrorCode() {
	case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "MissingAuthenticationTokenException",
		"IncompleteSignature", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "OptInRequired":
		return true
	}
	return false
}

// innermost is the error at the bottom, without the wraps of a library.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return fmt.Errorf("%w", err)
		}
		err = next
	}
}
