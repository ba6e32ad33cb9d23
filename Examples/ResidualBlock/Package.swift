// swift-tools-version: 6.1
import PackageDescription

let keel = Target.Dependency.product(name: "Keel", package: "Keel")

let package = Package(
  name: "ResidualBlock",
  platforms: [.macOS(.v13)],
  // Named, because the folder of the clone may be called anything.
  dependencies: [.package(name: "Keel", path: "../..")],
  targets: [
    .executableTarget(name: "ResidualBlock", dependencies: [keel]),
    // The library example of Keel's README, word for word.
    .executableTarget(name: "Quickstart", dependencies: [keel]),
  ],
  swiftLanguageModes: [.v6]
)
