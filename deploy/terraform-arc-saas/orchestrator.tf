# The orchestrator beside what terraform/decoupling-infra of arc-saas already has. README.md says how
# to use it; orchestrator_override.tf changes what is there.

variable "orchestrator_callback_url" {
  type        = string
  default     = ""
  description = "The control plane's webhook for reports; empty: the API_ENDPOINT of the tier"
}

variable "orchestrator_redrive" {
  type        = bool
  default     = false
  description = "Whether the function handles the dead letters: true until the queue is empty"
}

locals {
  orchestrator_name  = "${var.namespace}-${var.environment}-orchestrator"
  orchestrator_bus   = "${var.namespace}-${var.environment}-DecouplingEventBus"
  orchestrator_place = "${var.region}:${data.aws_caller_identity.current.account_id}"
  orchestrator_tiers = "${var.namespace}-${var.environment}-decoupling-tier-map-table"
}

# --- the ledger -------------------------------------------------------------------------------

resource "aws_dynamodb_table" "orchestrator_ledger" {
  name                        = "${local.orchestrator_name}-ledger"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "key"
  deletion_protection_enabled = true

  server_side_encryption {
    enabled = true
  }
  point_in_time_recovery {
    enabled = true
  }
  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  dynamic "attribute" {
    for_each = toset(["due_at", "due_shard", "event_type", "key", "list", "position", "status", "tenant_id"])
    content {
      name = attribute.value
      type = "S"
    }
  }

  global_secondary_index {
    name            = "due"
    hash_key        = "due_shard"
    range_key       = "due_at"
    projection_type = "KEYS_ONLY"
  }
  global_secondary_index {
    name            = "list"
    hash_key        = "list"
    range_key       = "position"
    projection_type = "KEYS_ONLY"
  }
  global_secondary_index {
    name            = "status"
    hash_key        = "status"
    range_key       = "position"
    projection_type = "KEYS_ONLY"
  }
  global_secondary_index {
    name            = "tenant"
    hash_key        = "tenant_id"
    range_key       = "position"
    projection_type = "KEYS_ONLY"
  }
  global_secondary_index {
    name            = "type"
    hash_key        = "event_type"
    range_key       = "position"
    projection_type = "KEYS_ONLY"
  }
}

# --- events: two rules and a schedule, onto the target that is there ---------------------------

# The types that the rule Decoupling-Event lacks.
resource "aws_cloudwatch_event_rule" "orchestrator_lifecycle" {
  name           = "${local.orchestrator_name}-lifecycle"
  event_bus_name = local.orchestrator_bus
  event_pattern = jsonencode({
    "detail-type" = [
      "TENANT_DEPROVISIONING_SUCCESS",
      "TENANT_DEPROVISIONING_FAILURE",
      "TENANT_CLEAN_UP",
      "TENANT_CLEAN_UP_SUCCESS",
      "TENANT_CLEAN_UP_FAILURE",
    ]
  })
}

resource "aws_cloudwatch_event_rule" "orchestrator_builds" {
  name = "${local.orchestrator_name}-builds"
  event_pattern = jsonencode({
    "source"      = ["aws.codebuild"]
    "detail-type" = ["CodeBuild Build State Change"]
    "detail"      = { "project-name" = [{ "prefix" = "${var.namespace}-${var.environment}-" }] }
  })
}

resource "aws_cloudwatch_event_rule" "orchestrator_sweep" {
  name                = "${local.orchestrator_name}-sweep"
  schedule_expression = "rate(1 minute)"
}

resource "aws_cloudwatch_event_target" "orchestrator_lifecycle" {
  rule           = aws_cloudwatch_event_rule.orchestrator_lifecycle.name
  event_bus_name = local.orchestrator_bus
  arn            = aws_cloudwatch_event_target.api_gateway_target.arn
  role_arn       = aws_cloudwatch_event_target.api_gateway_target.role_arn
  http_target {
    path_parameter_values = ["$.detail-type"]
  }
  dead_letter_config {
    arn = aws_sqs_queue.orchestrator_dead_letters.arn
  }
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }
}

resource "aws_cloudwatch_event_target" "orchestrator_builds" {
  rule     = aws_cloudwatch_event_rule.orchestrator_builds.name
  arn      = aws_cloudwatch_event_target.api_gateway_target.arn
  role_arn = aws_cloudwatch_event_target.api_gateway_target.role_arn
  http_target {
    path_parameter_values = ["BUILD_STATE_CHANGE"]
  }
  dead_letter_config {
    arn = aws_sqs_queue.orchestrator_dead_letters.arn
  }
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }
}

# The next sweep does the work of one that is lost.
resource "aws_cloudwatch_event_target" "orchestrator_sweep" {
  rule     = aws_cloudwatch_event_rule.orchestrator_sweep.name
  arn      = aws_cloudwatch_event_target.api_gateway_target.arn
  role_arn = aws_cloudwatch_event_target.api_gateway_target.role_arn
  http_target {
    path_parameter_values = ["RECONCILE"]
  }
  retry_policy {
    maximum_event_age_in_seconds = 60
    maximum_retry_attempts       = 0
  }
}

# --- dead letters ------------------------------------------------------------------------------

resource "aws_sqs_queue" "orchestrator_dead_letters" {
  name                       = "${local.orchestrator_name}-dead-letters"
  message_retention_seconds  = 1209600
  sqs_managed_sse_enabled    = true
  visibility_timeout_seconds = var.timeout
}

data "aws_iam_policy_document" "orchestrator_dead_letters" {
  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.orchestrator_dead_letters.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_sqs_queue_policy" "orchestrator_dead_letters" {
  queue_url = aws_sqs_queue.orchestrator_dead_letters.url
  policy    = data.aws_iam_policy_document.orchestrator_dead_letters.json
}

resource "aws_lambda_event_source_mapping" "orchestrator_redrive" {
  event_source_arn        = aws_sqs_queue.orchestrator_dead_letters.arn
  function_name           = module.lambda_function_container_image.lambda_function_name
  function_response_types = ["ReportBatchItemFailures"]
  enabled                 = var.orchestrator_redrive
}

# --- who may do what ---------------------------------------------------------------------------

# What `orchestrator check` prints, on these resources.
data "aws_iam_policy_document" "orchestrator" {
  statement {
    actions   = ["dynamodb:BatchGetItem", "dynamodb:ConditionCheckItem", "dynamodb:PutItem"]
    resources = [aws_dynamodb_table.orchestrator_ledger.arn]
  }
  statement {
    actions = ["dynamodb:Query"]
    resources = [
      "${aws_dynamodb_table.orchestrator_ledger.arn}/index/*",
      "arn:aws:dynamodb:${local.orchestrator_place}:table/${local.orchestrator_tiers}",
    ]
  }
  statement {
    actions   = ["events:DescribeEventBus", "events:PutEvents"]
    resources = ["arn:aws:events:${local.orchestrator_place}:event-bus/${local.orchestrator_bus}"]
  }
  statement {
    actions = [
      "codebuild:BatchGetBuilds",
      "codebuild:ListBuildsForProject",
      "codebuild:StartBuild",
      "codebuild:StopBuild",
    ]
    resources = [
      "arn:aws:codebuild:${local.orchestrator_place}:project/${var.namespace}-${var.environment}-*",
    ]
  }
  statement {
    actions   = ["codebuild:ListBuilds"] # has no resource types
    resources = ["*"]
  }
}

# What Lambda does with the role to redrive the dead letters.
data "aws_iam_policy_document" "orchestrator_redrive" {
  source_policy_documents = [data.aws_iam_policy_document.orchestrator.json]
  statement {
    actions   = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
    resources = [aws_sqs_queue.orchestrator_dead_letters.arn]
  }
}

resource "aws_iam_policy" "orchestrator" {
  name   = local.orchestrator_name
  policy = data.aws_iam_policy_document.orchestrator_redrive.json
}

data "aws_iam_policy_document" "orchestrator_delivery" {
  statement {
    actions = ["execute-api:Invoke"]
    resources = [
      "${data.aws_ssm_parameter.api_gw_url.value}/${var.environment}/POST/events/*",
    ]
  }
}
