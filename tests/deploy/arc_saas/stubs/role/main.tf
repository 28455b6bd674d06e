variable "role_name" {
  type = string
}

variable "policy_documents" {
  type = list(string)
}

output "arn" {
  value = "arn:aws:iam::111122223333:role/${var.role_name}"
}

output "policy_documents" {
  value = var.policy_documents
}
