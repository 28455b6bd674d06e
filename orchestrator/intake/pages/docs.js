SwaggerUIBundle({
  url: document.querySelector("link[rel=service-desc]").href,
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
});
