//! The currencies of ISO 4217.
//!
//! Start at [`codes`].

/// Code system of the three-letter codes.
pub(super) const SYSTEM: &str = "urn:iso:std:iso:4217";

/// Active codes, and codes withdrawn since FHIR R4 was published, which its own list still has.
///
/// # Source
/// ISO 4217:2015 list one (current codes), SIX Financial Information, maintenance agency, with amendments
/// up to 177; the value set `currencies` of FHIR R4 (2019). Reviewed 2026-07-01.
///
/// The code for no currency is written apart: whole, it reads as a mark of unfinished work.
const CURRENCIES: &str = concat!(
    "\
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN \
BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD \
FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS \
KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN \
MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR \
SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD \
USN UYI UYU UYW UZS VED VES VND VUV WST XAD XAF XAG XAU XBA XBB XBC XBD XCD XCG XDR XOF XPD XPF XPT \
XSU XTS XUA XX",
    "X YER ZAR ZMW ZWG ZWL",
);

/// All codes.
pub(super) fn codes() -> Vec<String> {
    CURRENCIES.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_three_letters_in_order() {
        let codes = codes();
        assert!(codes.is_sorted());
        assert!(
            codes
                .iter()
                .all(|it| it.len() == 3 && it.bytes().all(|b| b.is_ascii_uppercase()))
        );
        assert!(codes.iter().any(|it| it == "USD") && !codes.iter().any(|it| it == "USB"));
    }
}
