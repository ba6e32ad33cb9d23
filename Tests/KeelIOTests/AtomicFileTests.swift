import Foundation
import KeelIO
import Testing

@Suite struct AtomicFileTests {
  @Test func replacesAndLeavesNothingElse() throws {
    let folder = try TemporaryFolder()
    try AtomicFile.write([1, 2, 3], to: folder.file("a"))
    try AtomicFile.write(Data([4]), to: folder.file("a"))
    #expect(try folder.bytes(of: "a") == [4])
    #expect(try folder.names == ["a"])
  }

  @Test func followsALink() throws {
    let folder = try TemporaryFolder()
    try folder.write([1], to: "target")
    try FileManager.default.createSymbolicLink(atPath: folder.file("link"), withDestinationPath: folder.file("target"))
    try AtomicFile.write([2], to: folder.file("link"))
    #expect(try folder.bytes(of: "target") == [2])
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: folder.file("link")) == folder.file("target"))
  }

  @Test func errorsLeaveNothingBehind() throws {
    let folder = try TemporaryFolder()
    let lost = folder.file("no/such/folder/a")
    #expect(message { try AtomicFile.write([1], to: lost) }.hasPrefix("[file] \(lost): cannot be written"))
    try FileManager.default.createDirectory(atPath: folder.file("taken"), withIntermediateDirectories: true)
    #expect(
      message { try AtomicFile.write([1], to: folder.file("taken")) }.hasPrefix("[file] \(folder.file("taken")): "))
    #expect(try folder.names == ["taken"])
  }

  @Test func sha256() throws {
    // FIPS 180-2, appendix B.1, and the empty message.
    #expect(Checksum.sha256(Array("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(Checksum.sha256([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(
      message { try Checksum.verify([], sha256: "00", name: "f") }
        == "[checksum] f: expected SHA-256 00, got \(Checksum.sha256([]))")
  }
}
