package meeting

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const (
	noConnection = "REMOVE connectionId, connectedAt, #format"
	running      = "#status IN (:copying, :ready)"
	fileKept     = "attribute_not_exists(cancelled) AND #status IN (:ready, :delivered, :expired)"
)

// values has the values of an expression's placeholders. A name that begins with # is
// replaced by an attribute's name, any other by a value.
type values map[string]any

// errCondition: the condition does not hold, though there is an item.
var errCondition = errors.New("the condition does not hold")

// update applies expression where condition holds and returns the item as it is
// then. Where it doesn't, the error is errCondition, with the item as it is, or
// [ErrUnknown] if there is none. Every condition is one that fails without an item.
//
// The SDK repeats a call whose reply was lost. Each update of this package may be
// applied twice without harm, and where a condition is made false by its own first
// application (a token or a connection that was removed), the callers take its
// failure for "done", or look again.
func (t *Table) update(ctx context.Context, arn, expression, condition string, v values) (Item, error) {
	out, err := t.DynamoDB.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &t.Name, Key: key(arn),
		UpdateExpression: &expression, ConditionExpression: &condition,
		ExpressionAttributeNames:            names(expression+condition, v),
		ExpressionAttributeValues:           attributes(v),
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err != nil {
		return failed("update", err)
	}
	return decode(out.Attributes)
}

// remove deletes the item where condition holds. What it returns otherwise is as
// for update.
func (t *Table) remove(ctx context.Context, arn, condition string, v values) (Item, error) {
	_, err := t.DynamoDB.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &t.Name, Key: key(arn),
		ConditionExpression:                 &condition,
		ExpressionAttributeNames:            names(condition, v),
		ExpressionAttributeValues:           attributes(v),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err != nil {
		return failed("delete", err)
	}
	return Item{}, nil
}

// failed is what becomes of the error of a conditional write.
func failed(verb string, err error) (Item, error) {
	var condition *types.ConditionalCheckFailedException
	if !errors.As(err, &condition) {
		return Item{}, fmt.Errorf("%s item: %w", verb, err)
	}
	if condition.Item == nil {
		return Item{}, ErrUnknown
	}
	item, err := decode(condition.Item)
	if err != nil {
		return Item{}, err
	}
	return item, errCondition
}

func key(arn string) map[string]types.AttributeValue {
	return attributes(values{"executionArn": arn})
}

// names gives the attributes that are reserved words of DynamoDB, where they occur,
// and those that v names.
func names(expressions string, v values) map[string]string {
	n := map[string]string{}
	for _, word := range []string{"status", "format"} {
		if strings.Contains(expressions, "#"+word) {
			n["#"+word] = word
		}
	}
	for name, value := range v {
		if name[0] == '#' {
			n[name] = value.(string)
		}
	}
	if len(n) == 0 {
		return nil // an empty map is refused
	}
	return n
}

// attributes encodes values, whose types are this package's own and encodable.
func attributes(v values) map[string]types.AttributeValue {
	encode := map[string]any{}
	for name, value := range v {
		if name[0] != '#' {
			encode[name] = value
		}
	}
	if len(encode) == 0 {
		return nil
	}
	m, err := attributevalue.MarshalMap(encode)
	if err != nil {
		panic(err)
	}
	return m
}

func decode(attributes map[string]types.AttributeValue) (Item, error) {
	var item Item
	if err := attributevalue.UnmarshalMap(attributes, &item); err != nil {
		return Item{}, fmt.Errorf("decode item: %w", err)
	}
	for name, value := range attributes {
		if segment, ok := strings.CutPrefix(name, copiedPrefix); ok {
			if item.copied == nil {
				item.copied = map[string]int64{}
			}
			var n int64
			if err := attributevalue.Unmarshal(value, &n); err != nil {
				return Item{}, fmt.Errorf("decode item: %w", err)
			}
			item.copied[segment] = n
		}
	}
	return item, nil
}
