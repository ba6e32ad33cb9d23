import Foundation
import KeelKernels
import Testing

/// The folder of the kernels in the repository.
private let kernels = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appendingPathComponent("Kernels").resolvingSymlinksInPath()

@Suite struct KernelSourceTests {
  /// Names and texts of all kernel files below the folder.
  private func files() throws -> [String: String] {
    var files: [String: String] = [:]
    for folder in try FileManager.default.contentsOfDirectory(at: kernels, includingPropertiesForKeys: nil) {
      for file in (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
      where ["cl", "clh"].contains(file.pathExtension) {
        let known = files.updateValue(try String(contentsOf: file, encoding: .utf8), forKey: file.lastPathComponent)
        #expect(known == nil, "embedding flattens folders, so \(file.lastPathComponent) must be unique")
      }
    }
    try #require(files.count > 10, "no kernels in \(kernels.path)")
    return files
  }

  @Test func tableHoldsEveryFileOfTheFolders() throws {
    #expect(KernelSource.names == (try files().keys.sorted()))
  }

  @Test func embeddedTextIsTheFile() throws {
    let source = KernelSource(directory: nil)
    for (name, text) in try files() { #expect(try source.text(name) == text, "\(name)") }
  }

  @Test(arguments: KernelSource.names) func includesAreReplacedOnceEach(_ name: String) throws {
    let text = try KernelSource(directory: nil).resolved(name)
    #expect(!text.contains("#include"))
    // The guard of the common header is defined once at most.
    #expect(text.components(separatedBy: "#define KEEL_REAL_CLH").count <= 2)
    // A compiler's message names the file and its line.
    #expect(text.hasPrefix("#line 1 \"\(name)\""))
  }

  @Test func aFileThatIsNotThereIsNamed() throws {
    let error = #expect(throws: KernelSource.Failure.self) { try KernelSource(directory: nil).text("nothing.cl") }
    #expect(error?.description.contains("nothing.cl") == true)
  }

  @Test func aFileThatCannotBeReadIsNotCalledMissing() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-kernels-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    // A folder has the file's name: whoever runs the test, it cannot be read.
    let file = folder.appendingPathComponent("reduce/reduce.cl")
    try FileManager.default.createDirectory(at: file, withIntermediateDirectories: true)
    let error = #expect(throws: KernelSource.Failure.self) {
      try KernelSource(directory: folder.path).text("reduce.cl")
    }
    let text = error?.description ?? ""
    #expect(text.contains("cannot read \(file.path): ") && !text.contains("has no"), "\(text)")
  }

  @Test func anotherFolderIsReadInstead() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("keel-kernels-\(UUID())")
    defer { try? FileManager.default.removeItem(at: folder) }
    try FileManager.default.createDirectory(
      at: folder.appendingPathComponent("reduce"), withIntermediateDirectories: true)
    try "// edited\n#include \"real.clh\"\n".write(
      to: folder.appendingPathComponent("reduce/reduce.cl"), atomically: true, encoding: .utf8)
    let source = KernelSource(directory: folder.path)
    #expect(try source.text("reduce.cl") == "// edited\n#include \"real.clh\"\n")
    // Its include is looked for in the same folder, and is not there.
    let error = #expect(throws: KernelSource.Failure.self) { try source.resolved("reduce.cl") }
    #expect(error?.description.contains("real.clh") == true)
    try "// types".write(to: folder.appendingPathComponent("real.clh"), atomically: true, encoding: .utf8)
    let text = try source.resolved("reduce.cl")
    #expect(text.contains("// edited") && text.contains("// types"))
    // An empty name is none.
    #expect(try KernelSource(directory: "").text("reduce.cl").contains("reduce_each"))
  }
}
