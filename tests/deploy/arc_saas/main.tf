# Stands in for terraform/decoupling-infra of arc-saas: the blocks that the add-on refers to or
# overrides, by their names. The modules' sources are stubs with the same arguments.
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "namespace" {
  type = string
}

variable "environment" {
  type = string
}

variable "timeout" {
  type    = number
  default = 300
}

data "aws_caller_identity" "current" {}

data "aws_ssm_parameter" "api_gw_url" {
  name = "/${var.namespace}/${var.environment}/api_gw_arn"
}

data "aws_ssm_parameter" "orchestrator_ecr_image" {
  name = "/${var.namespace}/${var.environment}/orchestration-ecr-image-uri"
}

module "lambda_function_container_image" {
  source                = "./stubs/lambda"
  function_name         = "${var.namespace}-${var.environment}-decoupling-orchestrator-function"
  image_uri             = data.aws_ssm_parameter.orchestrator_ecr_image.value
  timeout               = var.timeout
  environment_variables = { TIER_DETAILS_TABLE = "before" }
  attach_policies       = true
  number_of_policies    = 2
  policies              = ["arn:aws:iam::aws:policy/One", "arn:aws:iam::aws:policy/Two"]
}

module "eventbridge_role" {
  source           = "./stubs/role"
  role_name        = "terraform-eventbridge-role-${var.namespace}-${var.environment}"
  policy_documents = ["everything"]
}

resource "aws_cloudwatch_event_target" "api_gateway_target" {
  target_id      = "APIGatewayTarget"
  rule           = "Decoupling-Event-rule"
  event_bus_name = "${var.namespace}-${var.environment}-DecouplingEventBus"
  role_arn       = module.eventbridge_role.arn
  arn = join("/", [
    data.aws_ssm_parameter.api_gw_url.value, var.environment, "POST", "events", "*",
  ])
  http_target {
    path_parameter_values = ["$.detail-type"]
  }
}
