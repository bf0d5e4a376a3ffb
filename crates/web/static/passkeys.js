// Passkeys: asks the browser's authenticator, and sends what it says with the form. Nothing is decided here; the
// server made the challenge and checks the answer. Without this script, codes of an app still work.
"use strict";
(() => {
  const TIMEOUT_MS = 120000;
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const keys = (list) => list.split(" ").filter(Boolean).map((id) => ({ type: "public-key", id: bytes(id) }));

  const ask = {
    get: async ({ challenge, rpId, allow }) => {
      const { rawId, response } = await navigator.credentials.get({
        publicKey: {
          challenge: bytes(challenge), rpId, allowCredentials: keys(allow),
          userVerification: "required", timeout: TIMEOUT_MS,
        },
      });
      return {
        credential: rawId, client_data: response.clientDataJSON,
        authenticator_data: response.authenticatorData, signature: response.signature,
      };
    },
    create: async ({ challenge, rpId, user, account, exclude }) => {
      const { response } = await navigator.credentials.create({
        publicKey: {
          challenge: bytes(challenge), rp: { id: rpId, name: "Chaperone" },
          user: { id: bytes(user), name: account, displayName: account },
          pubKeyCredParams: [-7, -8, -257].map((alg) => ({ type: "public-key", alg })),
          excludeCredentials: keys(exclude), attestation: "none", timeout: TIMEOUT_MS,
          authenticatorSelection: { userVerification: "required", residentKey: "discouraged" },
        },
      });
      return { client_data: response.clientDataJSON, authenticator_data: response.getAuthenticatorData() };
    },
  };
  const words = {
    NotAllowedError: "Nothing was confirmed at the device. Try again, or use another way.",
    InvalidStateError: "This device has a passkey for this account already.",
    SecurityError: "Passkeys do not work at this address; open the console under its proper name.",
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const problem = form.querySelector("[data-passkey-problem]");
    const button = form.querySelector("button");
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      problem.hidden = true;
      button.disabled = true;
      try {
        if (!window.PublicKeyCredential) throw new DOMException("", "SecurityError");
        const answer = await ask[form.dataset.passkey](form.dataset);
        for (const [name, value] of Object.entries(answer)) form.elements[name].value = text(value);
        form.submit();
      } catch (error) {
        problem.textContent = words[error.name] || "The passkey could not be used. Try again, or use another way.";
        problem.hidden = false;
        button.disabled = false;
        button.focus();
      }
    });
  }
})();
