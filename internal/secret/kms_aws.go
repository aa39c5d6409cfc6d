package secret

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/grantway/grantway/internal/seal"
)

// awsKMS is a symmetric key of AWS KMS.
type awsKMS struct {
	setting
	key    string
	region string // of the ARN; "" is what the default chain says
}

var awsKeyName = regexp.MustCompile(`^(arn:[a-z-]+:kms:([a-z0-9-]+):[0-9]+:(key|alias)/[0-9A-Za-z/_-]+|alias/[0-9A-Za-z/_-]+|[0-9A-Za-z-]+)$`)

func openAWSKey(key string, s setting) (seal.KMS, error) {
	found := awsKeyName.FindStringSubmatch(key)
	if found == nil {
		return nil, errors.New("must be aws: and the id, the ARN or alias/NAME of a key of AWS KMS")
	}
	return &awsKMS{keySetting(s, awsKind(), nil, noSecret), key, found[2]}, nil
}

// awsContext is authenticated by AWS, shown in its CloudTrail, and what a key policy can ask for
// (kms:EncryptionContext:application).
var awsContext = map[string]string{"application": "grantway"}

func (k *awsKMS) connect(ctx context.Context) (*kms.Client, error) {
	cfg, err := k.awsConfig(ctx, k.region, "")
	if err != nil {
		return nil, err
	}
	if err := k.awsCredentials(ctx, cfg.Credentials); err != nil {
		return nil, err
	}
	return kms.NewFromConfig(cfg), nil
}

// NewKey implements seal.KMS.
func (k *awsKMS) NewKey(ctx context.Context) (plain, wrapped []byte, err error) {
	client, err := k.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	out, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &k.key, KeySpec: types.DataKeySpecAes256, EncryptionContext: awsContext})
	if err != nil {
		return nil, nil, k.fault(err, "kms:GenerateDataKey")
	}
	return out.Plaintext, out.CiphertextBlob, nil
}

// Unwrap implements seal.KMS.
func (k *awsKMS) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	client, err := k.connect(ctx)
	if err != nil {
		return nil, err
	}
	out, err := client.Decrypt(ctx, &kms.DecryptInput{KeyId: &k.key, CiphertextBlob: wrapped, EncryptionContext: awsContext})
	if err != nil {
		return nil, k.fault(err, "kms:Decrypt")
	}
	return out.Plaintext, nil
}

func (k *awsKMS) fault(err error, action string) error {
	var api smithy.APIError
	switch {
	case !errors.As(err, &api):
		return unreached(k.name, "AWS KMS", innermost(err))
	case awsThrottles(err):
		return fault(k.name, throttled, err, "it gets too many requests (%s)", api.ErrorCode())
	case awsRefuses(api):
		return fault(k.name, refused, err, "it does not accept the hub's credentials (%s)", api.ErrorCode())
	}
	switch code := strings.TrimSuffix(api.ErrorCode(), "Exception"); code {
	case "NotFound":
		return fault(k.name, missing, err, "there is no such key")
	case "AccessDenied":
		return fault(k.name, denied, err, "permission denied: the hub's identity may not %s", action)
	case "Disabled":
		return fault(k.name, deleted, err, "the key is disabled")
	case "KMSInvalidState":
		return fault(k.name, deleted, err, "the key is disabled, or waits to be deleted")
	case "IncorrectKey", "InvalidCiphertext":
		return fault(k.name, unusable, err, "it does not open the keyset, so it is another key than the one that sealed it")
	case "InvalidKeyUsage":
		return fault(k.name, missing, err, "the key is not a symmetric one that encrypts and decrypts")
	default:
		return fault(k.name, unreachable, err, "it answered %s", api.ErrorCode())
	}
}
