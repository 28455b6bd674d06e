variable "function_name" {
  type = string
}

variable "image_uri" {
  type = string
}

variable "timeout" {
  type = number
}

variable "environment_variables" {
  type = map(string)
}

variable "attach_policies" {
  type = bool
}

variable "number_of_policies" {
  type = number
}

variable "policies" {
  type = list(string)
}

output "lambda_function_name" {
  value = var.function_name
}

output "given" {
  value = {
    environment_variables = var.environment_variables
    number_of_policies    = var.number_of_policies
    policies              = var.policies
  }
}
