import Crypto

/// SHA-256, as the 64 lower-case hexadecimal digits that `sha256sum` prints.
public enum Checksum {
  public static func sha256(_ bytes: [UInt8]) -> String {
    SHA256.hash(data: bytes).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// Throws `FormatError` when the bytes of `name` are not those whose digest is expected.
  public static func verify(_ bytes: [UInt8], sha256 expected: String, name: String) throws {
    let found = sha256(bytes)
    guard found == expected.lowercased() else {
      throw FormatError("checksum", name, "expected SHA-256 \(expected), got \(found)")
    }
  }
}
